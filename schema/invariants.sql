-- What several rows promise together. Must return no row; each row it returns is a broken rule:
--
--     psql -At -F ' ' -f schema/invariants.sql
--
-- It may run at any time, beside a serving node: it is one statement and sees one moment. (R…) are
-- the seat rules. Rules about seats look at leases whose home is this node: what it knows of other
-- nodes' may be incomplete.
WITH
self AS (
    SELECT node_ref, seq, ceiling_ms FROM node_state
),
known_node AS (
    SELECT node_ref FROM self UNION SELECT node_ref FROM node
),
-- The revision in force of each entitlement, and whether it may have taken seats away.
newest AS (
    SELECT DISTINCT ON (entitlement_ref) entitlement_ref, revision, installed_ms,
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
-- R2: credits(i) = minted[i] + moved to i - moved from i, for this node; what it minted counts once
-- it is usable.
owned AS (
    SELECT s.scope_ref, s.entitlement_ref,
           COALESCE((SELECT c.usable FROM credit c
                     WHERE c.scope_ref = s.scope_ref AND c.node_ref = self.node_ref), 0)
           + COALESCE((SELECT sum(m.moved) FROM credit_move m
                       WHERE m.scope_ref = s.scope_ref AND m.receiver = self.node_ref), 0)
           - COALESCE((SELECT sum(m.moved) FROM credit_move m
                       WHERE m.scope_ref = s.scope_ref AND m.giver = self.node_ref), 0) AS credits
    FROM scope s CROSS JOIN self
),
-- Seats that are certainly held; ended leases may hold some more (R6).
held AS (
    SELECT l.scope_ref, sum(l.count) AS seats, max(l.created_ms) AS last_created_ms
    FROM lease l JOIN self ON l.home = self.node_ref
    WHERE l.state = 0
    GROUP BY l.scope_ref
),
broken (rule, detail) AS (
    SELECT 'node_state_one_row', format('node_state has %s rows', count(*))
    FROM node_state HAVING count(*) <> 1

    UNION ALL -- every migration was applied, in order
    SELECT 'schema_version_gap', format('%s rows up to version %s', count(*), max(version))
    FROM schema_version HAVING count(*) <> COALESCE(max(version), 0)

    UNION ALL -- no record is newer than the node
    SELECT 'seq_above_node', format('%s %s has seq %s, the node %s', n.kind, n.ref, n.seq, self.seq)
    FROM numbered n CROSS JOIN self WHERE n.seq > self.seq

    UNION ALL -- a change number is given out once
    SELECT 'seq_twice', format('seq %s: %s', n.seq, string_agg(n.kind || ' ' || n.ref, ', '))
    FROM numbered n GROUP BY n.seq HAVING count(*) > 1

    UNION ALL -- R2: nobody grants a seat he has no credit for. After a reduction credits may lie
    -- below what is held, and then nothing is granted.
    SELECT 'held_over_credits',
           format('scope %s: %s seats held, %s credits', o.scope_ref, h.seats, o.credits)
    FROM owned o JOIN held h USING (scope_ref)
    LEFT JOIN newest n ON n.entitlement_ref = o.entitlement_ref
    WHERE h.seats > o.credits
      AND (NOT COALESCE(n.replaced, false) OR h.last_created_ms > n.installed_ms)

    UNION ALL -- R2: nobody moves credits he does not have
    SELECT 'moved_over_credits', format('scope %s: %s credits', o.scope_ref, o.credits)
    FROM owned o LEFT JOIN newest n ON n.entitlement_ref = o.entitlement_ref
    WHERE o.credits < 0 AND NOT COALESCE(n.replaced, false)

    UNION ALL -- R2: what was minted in all is what the publisher signed
    SELECT 'minted_not_seats',
           format('scope %s: %s minted, %s seats', s.scope_ref, COALESCE(sum(c.minted), 0), s.seats)
    FROM scope s LEFT JOIN credit c USING (scope_ref)
    GROUP BY s.scope_ref, s.seats HAVING COALESCE(sum(c.minted), 0) <> s.seats

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
       OR c.node_ref NOT IN (SELECT node_ref FROM known_node)

    UNION ALL
    SELECT 'move_unknown', format('scope %s, from %s to %s', m.scope_ref, m.giver, m.receiver)
    FROM credit_move m
    WHERE NOT EXISTS (SELECT 1 FROM scope s WHERE s.scope_ref = m.scope_ref)
       OR m.giver NOT IN (SELECT node_ref FROM known_node)
       OR m.receiver NOT IN (SELECT node_ref FROM known_node)

    UNION ALL
    SELECT 'node_is_self', format('node %s', n.node_ref)
    FROM node n JOIN self USING (node_ref)

    UNION ALL -- R8: nobody has merged what was never written
    SELECT 'acknowledged_above_node',
           format('node %s acknowledged %s of %s', n.node_ref, n.acknowledged, self.seq)
    FROM node n CROSS JOIN self WHERE n.acknowledged > self.seq

    UNION ALL
    SELECT 'lease_scope_unknown', format('lease %s: scope %s', l.lease_ref, l.scope_ref)
    FROM lease l WHERE NOT EXISTS (SELECT 1 FROM scope s WHERE s.scope_ref = l.scope_ref)

    UNION ALL
    SELECT 'lease_origin_unknown', format('lease %s: origin %s', l.lease_ref, l.origin_ref)
    FROM lease l WHERE NOT EXISTS (SELECT 1 FROM origin o WHERE o.origin_ref = l.origin_ref)

    UNION ALL
    SELECT 'lease_home_unknown', format('lease %s: home %s', l.lease_ref, l.home)
    FROM lease l WHERE l.home NOT IN (SELECT node_ref FROM known_node)

    UNION ALL -- leases end with their origin
    SELECT 'lease_of_deleted_origin', format('lease %s: origin %s', l.lease_ref, l.origin_ref)
    FROM lease l JOIN origin o USING (origin_ref) WHERE l.state = 0 AND NOT o.enrolled

    UNION ALL -- R9: of two homes of one reference, one supersedes the other
    SELECT 'lease_active_twice', format('lease %s: at %s homes', l.lease_ref, count(*))
    FROM lease l WHERE l.state = 0 GROUP BY l.lease_ref HAVING count(*) > 1

    UNION ALL -- R3: another node's lease is known only if it was shared
    SELECT 'private_lease_elsewhere', format('lease %s: home %s', l.lease_ref, l.home)
    FROM lease l CROSS JOIN self WHERE l.home <> self.node_ref AND NOT l.shared

    UNION ALL -- R1: the ceiling is durable before any time below it is used
    SELECT 'created_above_ceiling',
           format('lease %s: created %s, ceiling %s', l.lease_ref, l.created_ms, self.ceiling_ms)
    FROM lease l JOIN self ON l.home = self.node_ref WHERE l.created_ms > self.ceiling_ms

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
    FROM lease l JOIN self ON l.home = self.node_ref
    WHERE l.state = 4 AND l.ended_ms < l.ended_expires_ms
)
SELECT rule, detail FROM broken ORDER BY rule, detail;
