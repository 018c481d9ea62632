-- The pair: what a node knows of itself and of the other nodes, who minted what, and which
-- generation of its origin a lease was granted to.
--
-- A database of version 1 belongs to a node that never exchanged anything with another. What it
-- decided stays: its leases and origins are of this node's making, and all that it minted is
-- usable. Columns have a default only while the rows of version 1 are filled in.

-- ---- what a node knows of itself

CREATE TABLE self (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    refilled     boolean NOT NULL,
    drained      boolean NOT NULL,
    resumed_seq  bigint  NOT NULL CHECK (resumed_seq >= 0),
    lease_max_ms bigint  NOT NULL CHECK (lease_max_ms >= 0),
    former_1     uuid,
    former_2     uuid,
    former_3     uuid,
    former_4     uuid,
    CONSTRAINT self_former_without_gap CHECK (
        (former_2 IS NULL OR former_1 IS NOT NULL) AND
        (former_3 IS NULL OR former_2 IS NOT NULL) AND
        (former_4 IS NULL OR former_3 IS NOT NULL))
);

COMMENT ON TABLE self IS
    'What the node knows of itself (R10, R11): one row, or none before it decided anything';
COMMENT ON COLUMN self.only_row IS 'Key that allows one row';
COMMENT ON COLUMN self.refilled IS
    'False: it decides nothing until a completed page of its peer has refilled it (R11)';
COMMENT ON COLUMN self.drained IS
    'By an operator: it decides nothing and gives its free credits to its partner (R10)';
COMMENT ON COLUMN self.resumed_seq IS
    'After a drain: it decides again once its partner has acknowledged this change number';
COMMENT ON COLUMN self.lease_max_ms IS
    'Longest lease that it may give by now, because its partner knows of it (R10)';
COMMENT ON COLUMN self.former_1 IS
    'node_ref that it gave up last, because its history was lost (R11)';
COMMENT ON COLUMN self.former_2 IS 'The one before';
COMMENT ON COLUMN self.former_3 IS 'The one before';
COMMENT ON COLUMN self.former_4 IS 'The one before';

-- A database in which nothing was decided yet is as good as new: no row.
INSERT INTO self (refilled, drained, resumed_seq, lease_max_ms)
SELECT true, false, 0, 0 FROM node_state WHERE seq > 0;

-- ---- nodes, this one included

ALTER TABLE node
    ADD COLUMN retired    boolean NOT NULL DEFAULT false,
    ADD COLUMN drained    boolean NOT NULL DEFAULT false,
    ADD COLUMN heir       uuid,
    ADD COLUMN retired_ms bigint  NOT NULL DEFAULT 0 CHECK (retired_ms >= 0),
    ADD COLUMN wait_ms    bigint  NOT NULL DEFAULT 0 CHECK (wait_ms >= 0),
    ADD COLUMN longest_ms bigint  NOT NULL DEFAULT 0 CHECK (longest_ms >= 0),
    ADD COLUMN partner    boolean NOT NULL DEFAULT true,
    ADD COLUMN closed     boolean NOT NULL DEFAULT false,
    ADD COLUMN cursor     bigint  NOT NULL DEFAULT 0 CHECK (cursor >= 0),
    ADD CONSTRAINT node_heir_is_of_retired CHECK (retired OR heir IS NULL),
    ADD CONSTRAINT node_heir_is_another CHECK (heir <> node_ref),
    ADD CONSTRAINT node_retired_has_time CHECK (retired = (retired_ms > 0)),
    ADD CONSTRAINT node_waits_once_retired CHECK (wait_ms >= retired_ms),
    ADD CONSTRAINT node_wait_is_of_retired CHECK (retired OR wait_ms = 0);
ALTER TABLE node
    ALTER COLUMN retired DROP DEFAULT,
    ALTER COLUMN drained DROP DEFAULT,
    ALTER COLUMN retired_ms DROP DEFAULT,
    ALTER COLUMN wait_ms DROP DEFAULT,
    ALTER COLUMN longest_ms DROP DEFAULT,
    ALTER COLUMN partner DROP DEFAULT,
    ALTER COLUMN closed DROP DEFAULT,
    ALTER COLUMN cursor DROP DEFAULT;

-- Every page that comes and every one that goes changes the row of the partner.
ALTER TABLE node SET (fillfactor = 50);

COMMENT ON TABLE node IS
    'Every node of the instance that this one ever knew, itself included (R7, R10)';
COMMENT ON COLUMN node.node_ref IS 'The node';
COMMENT ON COLUMN node.retired IS 'It has stopped for good: nothing of it is taken any more (R10)';
COMMENT ON COLUMN node.drained IS
    'Of a retired one: it had said that it decides nothing any more, so it promised nothing unseen';
COMMENT ON COLUMN node.heir IS
    'Of a retired one: the node that its leases and credits belong to; else NULL';
COMMENT ON COLUMN node.retired_ms IS 'When it was retired, on the clock of its heir; else 0';
COMMENT ON COLUMN node.wait_ms IS
    'Until then, on the clock of its heir, counts what it may have promised unseen (R10); else 0';
COMMENT ON COLUMN node.longest_ms IS
    'Longest lease that it ever gave or may give, as far as it is known here';
COMMENT ON COLUMN node.seq IS
    'Change number of what other nodes are told: the columns up to longest_ms';
COMMENT ON COLUMN node.partner IS
    'Own knowledge: it was once this node''s partner, and may know its leases (R7)';
COMMENT ON COLUMN node.closed IS
    'Own knowledge: in its last complete page it said that it decides nothing any more';
COMMENT ON COLUMN node.watermark_ms IS
    'Own knowledge, W: all it decided up to then, on its clock, is known here (R8)';
COMMENT ON COLUMN node.acknowledged IS
    'Own knowledge, seen: it has merged our changes up to this number (R8)';
COMMENT ON COLUMN node.cursor IS
    'Own knowledge: its change number up to which its changes are merged here (R8)';

-- This node's own row; it carries the longest lease that it gave, for R10's wait. A change number
-- of its own: records of one database never share one.
INSERT INTO node (node_ref, retired, drained, heir, retired_ms, wait_ms, longest_ms, seq,
                  partner, closed, watermark_ms, acknowledged, cursor)
SELECT s.node_ref, false, false, NULL, 0, 0, COALESCE((SELECT max(duration_ms) FROM lease), 0),
       s.seq + 1, false, false, 0, 0, 0
FROM node_state s WHERE s.seq > 0;
UPDATE node_state SET seq = seq + 1 WHERE seq > 0;

-- ---- who minted (R2)

ALTER TABLE entitlement
    ADD COLUMN minter uuid,
    ADD COLUMN usable boolean NOT NULL DEFAULT true;
UPDATE entitlement SET minter = (SELECT node_ref FROM node_state);
ALTER TABLE entitlement
    ALTER COLUMN minter SET NOT NULL,
    ALTER COLUMN usable DROP DEFAULT;

COMMENT ON COLUMN entitlement.installed_ms IS 'When it was installed, on the clock of its minter';
COMMENT ON COLUMN entitlement.minter IS
    'Node that minted its seats (R2): of two that installed it, the one with the smaller node_ref';
COMMENT ON COLUMN entitlement.usable IS
    'Own knowledge: its minter may use what it minted (R2)';

-- Version 1 kept what a node with a peer had minted locked until the peer acknowledged it. There
-- was no way to acknowledge anything, and nobody else minted.
UPDATE credit SET usable = minted WHERE usable < minted;
ALTER TABLE credit ADD COLUMN debt bigint CHECK (debt >= 0);
UPDATE credit SET debt = 0;
ALTER TABLE credit ALTER COLUMN debt SET NOT NULL;
COMMENT ON COLUMN credit.debt IS
    'Seats that this other node holds beyond its credits, as it said last (after a reduction)';

COMMENT ON TABLE credit IS
    'Seats minted, by scope and node (R2); derived from the entitlements, so that SQL can read it';
COMMENT ON COLUMN credit.minted IS
    'In all; below zero where a revision reduces what other nodes had minted';
COMMENT ON COLUMN credit.usable IS 'Of that, what its node may use already, as far as known here';
COMMENT ON COLUMN credit.revision IS 'The newest revision that is in it';

-- ---- generations (an origin that was deleted ends its leases on every node)

ALTER TABLE origin ADD COLUMN updated_by uuid;
UPDATE origin SET updated_by = (SELECT node_ref FROM node_state);
ALTER TABLE origin ALTER COLUMN updated_by SET NOT NULL;

COMMENT ON COLUMN origin.created_ms IS 'When a node first heard of it';
COMMENT ON COLUMN origin.updated_ms IS
    'When its enrolment or environment last changed, on the clock of updated_by';
COMMENT ON COLUMN origin.updated_by IS 'Node whose clock updated_ms is: the newest stamp wins (R9)';

ALTER TABLE lease
    ADD COLUMN generation bigint NOT NULL DEFAULT 0 CHECK (generation BETWEEN 0 AND 4294967295);
UPDATE lease l SET generation = o.generation
FROM origin o WHERE o.origin_ref = l.origin_ref AND o.generation <> 0;
ALTER TABLE lease ALTER COLUMN generation DROP DEFAULT;

COMMENT ON COLUMN lease.generation IS
    'Of its origin, when it was granted: with an older one than its origin''s it has ended';
COMMENT ON COLUMN lease.ended_expires_ms IS
    'expires_ms known when it ended (R5); 0 while active; 1 if that is not known, because its '
    'origin was deleted on another node';

-- ---- the guard of every batch, unchanged, now also moves node_state when a node gives up its name
-- or its records (R11)
COMMENT ON COLUMN node_state.node_ref IS
    'Drawn when the database was first initialised, or its history was lost; never reused (R11)';
