-- What two nodes that have exchanged everything must have in common (I3), one line a row. Left out:
-- change numbers, which each node gives out itself, and what a node knows for itself alone. ledgers.py
-- compares two of these.
SELECT 'lease ' || (to_jsonb(one) - 'seq')::text FROM lease AS one
UNION ALL
SELECT 'origin ' || (to_jsonb(one) - 'seq')::text FROM origin AS one
UNION ALL
SELECT 'credit_move ' || (to_jsonb(one) - 'seq')::text FROM credit_move AS one
UNION ALL
SELECT 'entitlement ' || (to_jsonb(one) - 'seq' - 'usable')::text FROM entitlement AS one
UNION ALL
SELECT 'retired ' || jsonb_build_object('node_ref', node_ref, 'heir', heir, 'drained', drained,
                                        'retired_ms', retired_ms, 'wait_ms', wait_ms)::text
FROM node WHERE retired
ORDER BY 1;
