-- What several rows promise together. Must return no row; each row it returns is a broken rule:
--
--     psql -At -F ' ' -f schema/invariants.sql
--
-- It may run at any time, beside a serving node: it is one statement and sees one moment. (R…) are
-- the seat rules. Rules about seats look at leases whose home is this node or a retired one that it
-- inherited: what it knows of other nodes' may be incomplete.
WITH RECURSIVE
me AS (
    SELECT node_ref, seq, ceiling_ms FROM node_state
),
-- R11: names that this node gave up, and whether it waits to be refilled.
former AS (
    SELECT f.node_ref
    FROM self, unnest(ARRAY[former_1, former_2, former_3, former_4]) AS f (node_ref)
    WHERE f.node_ref IS NOT NULL
),
unfilled AS (
    SELECT EXISTS (SELECT 1 FROM self WHERE NOT refilled) AS yes
),
known_node AS (
    SELECT node_ref FROM me UNION SELECT node_ref FROM node
),
-- R10: from each node along its heirs to this node, or to one that lives. No instance has more than
-- 16 nodes.
line AS (
    SELECT k.node_ref, k.node_ref AS owner, 0 AS steps FROM known_node k
    UNION ALL
    SELECT l.node_ref, n.heir, l.steps + 1
    FROM line l JOIN node n ON n.node_ref = l.owner AND n.retired AND n.heir IS NOT NULL
    WHERE l.steps < 16 AND l.owner <> (SELECT node_ref FROM me)
),
-- Nodes whose leases and credits are this node's: itself, and whoever it inherited.
mine AS (
    SELECT l.node_ref FROM line l JOIN me ON l.owner = me.node_ref
),
-- The revision in force of each entitlement, and whether it may have taken seats away.
newest AS (
    SELECT DISTINCT ON (entitlement_ref) entitlement_ref, revision, installed_ms, minter,
           count(*) OVER (PARTITION BY entitlement_ref) > 1 AS replaced
    FROM entitlement
    ORDER BY entitlement_ref, revision DESC
),
numbered AS (
    SELECT 'entitlement' AS kind, entitlement_ref AS ref, seq FROM entitlement
    UNION ALL SELECT 'scope', scope_ref, seq FROM scope
    UNION ALL SELECT 'credit', scope_ref, seq FROM credit
    UNION ALL SELECT 'credit_move', scope_ref, seq FROM credit_move
    UNION ALL SELECT 'node', node_ref, seq FROM node
    UNION ALL SELECT 'origin', origin_ref, seq FROM origin
    UNION ALL SELECT 'lease', lease_ref, seq FROM lease
),
-- R2: credits(i) = minted[i] + moved to i - moved from i, of this node and whoever it inherited.
-- What it minted itself counts once it is usable.
owned AS (
    SELECT s.scope_ref, s.entitlement_ref,
           COALESCE((SELECT sum(CASE WHEN c.node_ref = me.node_ref THEN c.usable ELSE c.minted END)
                     FROM credit c
                     WHERE c.scope_ref = s.scope_ref AND c.node_ref IN (TABLE mine)), 0)
           + COALESCE((SELECT sum(m.moved) FROM credit_move m
                       WHERE m.scope_ref = s.scope_ref AND m.receiver IN (TABLE mine)), 0)
           - COALESCE((SELECT sum(m.moved) FROM credit_move m
                       WHERE m.scope_ref = s.scope_ref AND m.giver IN (TABLE mine)), 0) AS credits
    FROM scope s CROSS JOIN me
),
-- Seats that are certainly held; ended leases may hold some more (R6).
held AS (
    SELECT l.scope_ref, sum(l.count) AS seats, max(l.created_ms) AS last_created_ms
    FROM lease l
    WHERE l.state = 0 AND l.home IN (TABLE mine)
    GROUP BY l.scope_ref
),
broken (rule, detail) AS (
    SELECT 'node_state_one_row', format('node_state has %s rows', count(*))
    FROM node_state HAVING count(*) <> 1

    UNION ALL -- every migration was applied, in order
    SELECT 'schema_version_gap', format('%s rows up to version %s', count(*), max(version))
    FROM schema_version HAVING count(*) <> COALESCE(max(version), 0)

    UNION ALL -- R11: who has decided anything knows whether he may
    SELECT 'self_one_row', format('self has %s rows', (SELECT count(*) FROM self))
    FROM me WHERE (SELECT count(*) FROM self) <> 1
      AND ((SELECT count(*) FROM self) > 1 OR EXISTS (SELECT 1 FROM lease))

    UNION ALL -- R11: a name that was given up is never borne again
    SELECT 'former_is_present', format('node %s', f.node_ref) FROM former f JOIN me USING (node_ref)

    UNION ALL
    SELECT 'former_twice', format('node %s', f.node_ref)
    FROM former f GROUP BY f.node_ref HAVING count(*) > 1

    UNION ALL -- R11: it decides nothing before it is refilled
    SELECT 'unfilled_has_lease', format('lease %s', l.lease_ref)
    FROM lease l JOIN me ON l.home = me.node_ref JOIN unfilled u ON u.yes WHERE l.state = 0

    UNION ALL -- no record is newer than the node
    SELECT 'seq_above_node', format('%s %s has seq %s, the node %s', n.kind, n.ref, n.seq, me.seq)
    FROM numbered n CROSS JOIN me WHERE n.seq > me.seq

    UNION ALL -- a change number is given out once
    SELECT 'seq_twice', format('seq %s: %s', n.seq, string_agg(n.kind || ' ' || n.ref, ', '))
    FROM numbered n GROUP BY n.seq HAVING count(*) > 1

    UNION ALL -- R2: nobody grants a seat he has no credit for. After a reduction the credits of its
    -- minter may lie below what is held, and then nothing is granted; what was inherited since may
    -- have been granted on another clock.
    SELECT 'held_over_credits',
           format('scope %s: %s seats held, %s credits', o.scope_ref, h.seats, o.credits)
    FROM owned o JOIN held h USING (scope_ref)
    LEFT JOIN newest n ON n.entitlement_ref = o.entitlement_ref
    WHERE h.seats > o.credits
      AND (NOT COALESCE(n.replaced, false)
           OR (h.last_created_ms > n.installed_ms AND n.minter = (SELECT node_ref FROM me)
               AND (SELECT count(*) FROM mine) = 1))

    UNION ALL -- R2: nobody moves credits he does not have
    SELECT 'moved_over_credits', format('scope %s: %s credits', o.scope_ref, o.credits)
    FROM owned o LEFT JOIN newest n ON n.entitlement_ref = o.entitlement_ref
    WHERE o.credits < 0 AND NOT COALESCE(n.replaced, false)

    UNION ALL -- R2: what was minted in all is what the publisher signed
    SELECT 'minted_not_seats',
           format('scope %s: %s minted, %s seats', s.scope_ref, COALESCE(sum(c.minted), 0), s.seats)
    FROM scope s LEFT JOIN credit c USING (scope_ref)
    GROUP BY s.scope_ref, s.seats HAVING COALESCE(sum(c.minted), 0) <> s.seats

    UNION ALL -- R2: only who installed a revision has minted
    SELECT 'credit_without_minter',
           format('scope %s: node %s minted %s', c.scope_ref, c.node_ref, c.minted)
    FROM credit c JOIN scope s USING (scope_ref)
    WHERE c.minted <> 0
      AND NOT EXISTS (SELECT 1 FROM entitlement e
                      WHERE e.entitlement_ref = s.entitlement_ref AND e.minter = c.node_ref)

    UNION ALL -- R2: pending is what a revision minted that is not usable yet, and nothing else
    SELECT 'credit_pending',
           format('scope %s, node %s: %s of %s usable', c.scope_ref, c.node_ref, c.usable, c.minted)
    FROM credit c JOIN scope s USING (scope_ref)
    WHERE c.usable <> c.minted
      AND NOT EXISTS (SELECT 1 FROM entitlement e
                      WHERE e.entitlement_ref = s.entitlement_ref AND e.minter = c.node_ref
                        AND NOT e.usable)

    UNION ALL
    SELECT 'minter_unknown',
           format('entitlement %s, revision %s: node %s', e.entitlement_ref, e.revision, e.minter)
    FROM entitlement e WHERE e.minter NOT IN (TABLE known_node)

    UNION ALL -- R2: minted once per revision, of one that is installed
    SELECT 'credit_revision', format('scope %s: minted up to revision %s', c.scope_ref, c.revision)
    FROM credit c JOIN scope s USING (scope_ref)
    LEFT JOIN newest n ON n.entitlement_ref = s.entitlement_ref
    WHERE c.revision > COALESCE(n.revision, 0)

    UNION ALL -- scopes are derived from the entitlements
    SELECT 'scope_without_entitlement',
           format('scope %s: entitlement %s, revision %s', s.scope_ref, s.entitlement_ref,
                  s.revision)
    FROM scope s LEFT JOIN entitlement e USING (entitlement_ref, revision)
    WHERE e.entitlement_ref IS NULL

    UNION ALL -- a feature that the newest revision dropped has no seats
    SELECT 'dropped_scope_has_seats',
           format('scope %s: %s seats of revision %s', s.scope_ref, s.seats, s.revision)
    FROM scope s JOIN newest n USING (entitlement_ref)
    WHERE s.revision < n.revision AND s.seats <> 0

    UNION ALL
    SELECT 'credit_unknown', format('scope %s, node %s', c.scope_ref, c.node_ref)
    FROM credit c
    WHERE NOT EXISTS (SELECT 1 FROM scope s WHERE s.scope_ref = c.scope_ref)
       OR c.node_ref NOT IN (TABLE known_node)

    UNION ALL
    SELECT 'move_unknown', format('scope %s, from %s to %s', m.scope_ref, m.giver, m.receiver)
    FROM credit_move m
    WHERE NOT EXISTS (SELECT 1 FROM scope s WHERE s.scope_ref = m.scope_ref)
       OR m.giver NOT IN (TABLE known_node)
       OR m.receiver NOT IN (TABLE known_node)

    UNION ALL -- R7, R10: at most one other node lives that may know this one's leases
    SELECT 'partner_twice', string_agg(format('node %s', n.node_ref), ', ')
    FROM node n CROSS JOIN me
    WHERE n.partner AND NOT n.retired AND n.node_ref <> me.node_ref
      AND n.node_ref NOT IN (TABLE former)
    HAVING count(*) > 1

    UNION ALL
    SELECT 'partner_is_self', format('node %s', n.node_ref)
    FROM node n JOIN me USING (node_ref)
    WHERE n.partner OR n.closed OR n.watermark_ms > 0 OR n.acknowledged > 0 OR n.cursor > 0

    UNION ALL -- R8: only partners state anything, and only theirs is merged
    SELECT 'stranger_stated',
           format('node %s: watermark %s, acknowledged %s, cursor %s', n.node_ref, n.watermark_ms,
                  n.acknowledged, n.cursor)
    FROM node n JOIN me ON n.node_ref <> me.node_ref
    WHERE NOT n.partner
      AND (n.closed OR n.watermark_ms > 0 OR n.acknowledged > 0 OR n.cursor > 0)

    UNION ALL -- R8: nobody has merged what was never written
    SELECT 'acknowledged_above_node',
           format('node %s acknowledged %s of %s', n.node_ref, n.acknowledged, me.seq)
    FROM node n CROSS JOIN me WHERE n.acknowledged > me.seq

    UNION ALL -- R10: what a retired node had belongs to somebody
    SELECT 'retired_without_heir', format('node %s', n.node_ref)
    FROM node n JOIN me ON n.node_ref <> me.node_ref WHERE n.retired AND n.heir IS NULL

    UNION ALL
    SELECT 'heir_unknown', format('node %s: heir %s', n.node_ref, n.heir)
    FROM node n WHERE n.heir IS NOT NULL AND n.heir NOT IN (TABLE known_node)

    UNION ALL -- R10: an heir was alive when it inherited
    SELECT 'heirs_in_circle', string_agg(format('node %s', l.node_ref), ', ')
    FROM line l WHERE l.steps = 16 HAVING count(*) > 0

    UNION ALL -- R10: what it may have promised unseen lasts as long as its longest lease
    SELECT 'retired_without_wait',
           format('node %s: retired %s, longest lease %s, wait %s', n.node_ref, n.retired_ms,
                  n.longest_ms, n.wait_ms)
    FROM node n JOIN me ON n.node_ref <> me.node_ref
    WHERE n.retired AND NOT n.drained AND n.wait_ms < n.retired_ms + n.longest_ms

    UNION ALL
    SELECT 'updater_unknown', format('origin %s: node %s', o.origin_ref, o.updated_by)
    FROM origin o WHERE o.updated_ms > 1 AND o.updated_by NOT IN (TABLE known_node)

    UNION ALL
    SELECT 'lease_scope_unknown', format('lease %s: scope %s', l.lease_ref, l.scope_ref)
    FROM lease l WHERE NOT EXISTS (SELECT 1 FROM scope s WHERE s.scope_ref = l.scope_ref)

    UNION ALL
    SELECT 'lease_origin_unknown', format('lease %s: origin %s', l.lease_ref, l.origin_ref)
    FROM lease l WHERE NOT EXISTS (SELECT 1 FROM origin o WHERE o.origin_ref = l.origin_ref)

    UNION ALL
    SELECT 'lease_home_unknown', format('lease %s: home %s', l.lease_ref, l.home)
    FROM lease l WHERE l.home NOT IN (TABLE known_node)

    UNION ALL -- leases end with their origin
    SELECT 'lease_of_deleted_origin', format('lease %s: origin %s', l.lease_ref, l.origin_ref)
    FROM lease l JOIN origin o USING (origin_ref) WHERE l.state = 0 AND NOT o.enrolled

    UNION ALL -- an origin that was deleted took its leases along, and a new one begins anew
    SELECT 'lease_generation',
           format('lease %s: generation %s, origin %s', l.lease_ref, l.generation, o.generation)
    FROM lease l JOIN origin o USING (origin_ref)
    WHERE l.generation > o.generation OR (l.state = 0 AND l.generation < o.generation)

    UNION ALL -- R9: of the same lease at two homes the one of the larger home ends as superseded,
    -- by its home, once that knows both. The other home has to wait until it hears of it; and where
    -- the smaller one could not be extended any more (it is past its time), both stand until they
    -- end. No ledger time above the ceiling was ever used, so what expires above it could be.
    SELECT 'lease_active_twice',
           format('lease %s: here and at node %s, until %s', l.lease_ref, d.home, d.expires_ms)
    FROM lease l JOIN me ON l.home = me.node_ref
    JOIN lease d ON d.lease_ref = l.lease_ref AND d.home < l.home AND d.state = 0
                AND d.origin_ref = l.origin_ref AND d.scope_ref = l.scope_ref AND d.count = l.count
    WHERE l.state = 0 AND d.expires_ms > me.ceiling_ms

    UNION ALL -- R3: another node's lease is known only if it was shared. What this node granted
    -- under a name that it gave up was its own.
    SELECT 'private_lease_elsewhere', format('lease %s: home %s', l.lease_ref, l.home)
    FROM lease l JOIN me ON l.home <> me.node_ref JOIN unfilled u ON NOT u.yes
    WHERE l.state = 0 AND NOT l.shared AND l.home NOT IN (TABLE former)

    UNION ALL -- R1: the ceiling is durable before any time below it is used
    SELECT 'created_above_ceiling',
           format('lease %s: created %s, ceiling %s', l.lease_ref, l.created_ms, me.ceiling_ms)
    FROM lease l JOIN me ON l.home = me.node_ref WHERE l.created_ms > me.ceiling_ms

    UNION ALL -- R5: an end has its time, and only an end has one
    SELECT 'lease_end_contradicts',
           format('lease %s: state %s, ended %s, at expiry %s', l.lease_ref, l.state, l.ended_ms,
                  l.ended_expires_ms)
    FROM lease l
    WHERE (l.state = 0) <> (l.ended_ms = 0) OR (l.ended_ms = 0) <> (l.ended_expires_ms = 0)
       OR l.ended_expires_ms > l.expires_ms OR l.state NOT BETWEEN 0 AND 4

    UNION ALL -- R7: no lease expires before its time
    SELECT 'expired_early',
           format('lease %s: ended %s, expires %s', l.lease_ref, l.ended_ms, l.ended_expires_ms)
    FROM lease l
    WHERE l.state = 4 AND l.home IN (TABLE mine) AND l.ended_ms < l.ended_expires_ms
)
SELECT rule, detail FROM broken ORDER BY rule, detail;
