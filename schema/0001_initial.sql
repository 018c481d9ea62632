-- The node's tables. Forward only: a released migration is never edited, a new one is added.
--
-- One process, the owner of the database, writes them, in one transaction a batch (node/store). All
-- times are milliseconds since 1970 of the ledger clock (R1), never timestamps: no rule reads the
-- database's clock. Change numbers (seq) are given out by the single writer in commit order.
--
-- CHECKs hold what a single row can promise. What several rows promise together is in
-- invariants.sql and is checked by the ledger when it loads; foreign keys would cost a look-up for
-- each row of the busiest tables and say less.

CREATE TABLE schema_version (
    version    integer PRIMARY KEY CHECK (version >= 1),
    name       text    NOT NULL,
    program    text    NOT NULL,
    applied_ms bigint  NOT NULL
);

COMMENT ON TABLE schema_version IS 'Migrations that were applied, one row each';
COMMENT ON COLUMN schema_version.version IS 'Number its file name begins with';
COMMENT ON COLUMN schema_version.name IS 'Its file name';
COMMENT ON COLUMN schema_version.program IS 'Version of the twinlease-node that applied it';
COMMENT ON COLUMN schema_version.applied_ms IS 'When, on that machine''s wall clock';

CREATE TABLE node_state (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    node_ref     uuid    NOT NULL,
    instance_ref uuid    NOT NULL,
    seq          bigint  NOT NULL CHECK (seq >= 0),
    ceiling_ms   bigint  NOT NULL CHECK (ceiling_ms >= 0)
) WITH (fillfactor = 10); -- updated by every batch: room for new versions on the same page

COMMENT ON TABLE node_state IS 'Who this database belongs to and how far it got: one row';
COMMENT ON COLUMN node_state.only_row IS 'Key that allows one row';
COMMENT ON COLUMN node_state.node_ref IS
    'Drawn when the database was first initialised, never reused (R11)';
COMMENT ON COLUMN node_state.instance_ref IS 'INSTANCE_REF it was initialised for';
COMMENT ON COLUMN node_state.seq IS 'Change number of the last committed batch';
COMMENT ON COLUMN node_state.ceiling_ms IS
    'No ledger time above it was ever used; the clock starts here after a restart (R1)';

-- A batch begins here, so that nothing of it is written if anybody else wrote meanwhile.
CREATE FUNCTION node_state_advance(expected bigint, reached bigint, ceiling bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE node_state SET seq = reached, ceiling_ms = COALESCE(NULLIF(ceiling, 0), ceiling_ms)
    WHERE seq = expected;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'TL001', MESSAGE = format(
            'node_state.seq is %s, its owner left it at %s: somebody else wrote to this database',
            COALESCE((SELECT seq::text FROM node_state), 'missing'), expected);
    END IF;
END
$$;

COMMENT ON FUNCTION node_state_advance(bigint, bigint, bigint) IS
    'Moves the change number from expected to reached or fails with TL001; a ceiling of 0 leaves it';

CREATE TABLE entitlement (
    entitlement_ref uuid   NOT NULL,
    revision        bigint NOT NULL CHECK (revision >= 1),
    publisher       text   NOT NULL CHECK (publisher <> ''),
    text            text   NOT NULL CHECK (text <> ''),
    sha256          bytea  NOT NULL CHECK (octet_length(sha256) = 32),
    begins_ms       bigint NOT NULL CHECK (begins_ms >= 0),
    ends_ms         bigint NOT NULL,
    installed_ms    bigint NOT NULL CHECK (installed_ms > 0),
    seq             bigint NOT NULL CHECK (seq > 0),
    PRIMARY KEY (entitlement_ref, revision),
    CONSTRAINT entitlement_ends_after_it_begins CHECK (ends_ms >= begins_ms)
);

COMMENT ON TABLE entitlement IS 'Every revision that was installed; the newest is in force';
COMMENT ON COLUMN entitlement.entitlement_ref IS 'Reference the publisher gave it';
COMMENT ON COLUMN entitlement.revision IS 'A higher one replaces the lower ones';
COMMENT ON COLUMN entitlement.publisher IS 'Who signed it';
COMMENT ON COLUMN entitlement.text IS 'The compact JWS as it was installed';
COMMENT ON COLUMN entitlement.sha256 IS 'Of the text; stands in lease tokens as "ent"';
COMMENT ON COLUMN entitlement.begins_ms IS 'nbf, else iat';
COMMENT ON COLUMN entitlement.ends_ms IS 'exp';
COMMENT ON COLUMN entitlement.installed_ms IS 'Clock of the node that wrote this row';
COMMENT ON COLUMN entitlement.seq IS 'Change number of this row';

CREATE TABLE scope (
    scope_ref       uuid   PRIMARY KEY,
    entitlement_ref uuid   NOT NULL,
    revision        bigint NOT NULL CHECK (revision >= 1),
    feature         text   NOT NULL CHECK (feature <> ''),
    seats           bigint NOT NULL CHECK (seats >= 0),
    seq             bigint NOT NULL CHECK (seq > 0)
);

COMMENT ON TABLE scope IS
    'What can be leased; derived from the entitlements, so that SQL can read it';
COMMENT ON COLUMN scope.scope_ref IS 'Reference the publisher gave the feature';
COMMENT ON COLUMN scope.entitlement_ref IS 'The entitlement it belongs to, for ever';
COMMENT ON COLUMN scope.revision IS 'The newest revision that has this scope';
COMMENT ON COLUMN scope.feature IS 'Its name';
COMMENT ON COLUMN scope.seats IS 'In force; 0 if a newer revision dropped the feature';
COMMENT ON COLUMN scope.seq IS 'Change number of this row';

CREATE TABLE credit (
    scope_ref uuid   NOT NULL,
    node_ref  uuid   NOT NULL,
    minted    bigint NOT NULL,
    usable    bigint NOT NULL,
    revision  bigint NOT NULL CHECK (revision >= 0),
    seq       bigint NOT NULL CHECK (seq > 0),
    PRIMARY KEY (scope_ref, node_ref),
    CONSTRAINT credit_usable_was_minted CHECK (usable <= minted)
);

COMMENT ON TABLE credit IS
    'Seats minted, by scope and node (R2); only the node itself changes its row';
COMMENT ON COLUMN credit.scope_ref IS 'Scope of the seats';
COMMENT ON COLUMN credit.node_ref IS 'Node that minted them';
COMMENT ON COLUMN credit.minted IS
    'In all; a reduction lowers it, below zero where it takes what another node minted';
COMMENT ON COLUMN credit.usable IS 'Of that, what may be leased already';
COMMENT ON COLUMN credit.revision IS 'Of the entitlement, up to which the node has minted';
COMMENT ON COLUMN credit.seq IS 'Change number of this row';

CREATE TABLE credit_move (
    scope_ref uuid   NOT NULL,
    giver     uuid   NOT NULL,
    receiver  uuid   NOT NULL,
    moved     bigint NOT NULL CHECK (moved > 0),
    seq       bigint NOT NULL CHECK (seq > 0),
    PRIMARY KEY (scope_ref, giver, receiver),
    CONSTRAINT credit_move_not_to_itself CHECK (receiver <> giver)
);

COMMENT ON TABLE credit_move IS
    'Credits given to another node (R2); only the giver changes its rows';
COMMENT ON COLUMN credit_move.scope_ref IS 'Scope of the credits';
COMMENT ON COLUMN credit_move.giver IS 'Node that gave them';
COMMENT ON COLUMN credit_move.receiver IS 'Node that got them';
COMMENT ON COLUMN credit_move.moved IS 'In all, ever; grows only';
COMMENT ON COLUMN credit_move.seq IS 'Change number of this row';

CREATE TABLE node (
    node_ref     uuid   PRIMARY KEY,
    watermark_ms bigint NOT NULL CHECK (watermark_ms >= 0),
    acknowledged bigint NOT NULL CHECK (acknowledged >= 0),
    seq          bigint NOT NULL CHECK (seq > 0)
);

COMMENT ON TABLE node IS 'Every other node that this one ever knew (R7 counts them all)';
COMMENT ON COLUMN node.node_ref IS 'The other node';
COMMENT ON COLUMN node.watermark_ms IS
    'W: all it decided up to then, on its clock, is known here (R8)';
COMMENT ON COLUMN node.acknowledged IS 'seen: it has merged our changes up to this number (R8)';
COMMENT ON COLUMN node.seq IS 'Change number of this row';

CREATE TABLE origin (
    origin_ref  uuid    PRIMARY KEY,
    created_ms  bigint  NOT NULL CHECK (created_ms > 0),
    updated_ms  bigint  NOT NULL CHECK (updated_ms > 0),
    seq         bigint  NOT NULL CHECK (seq > 0),
    generation  bigint  NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    enrolled    boolean NOT NULL,
    environment text
) WITH (fillfactor = 80);

COMMENT ON TABLE origin IS
    'Enrolled machines, and deleted ones whose old secrets must stay worthless';
COMMENT ON COLUMN origin.origin_ref IS 'Reference the machine drew';
COMMENT ON COLUMN origin.created_ms IS 'When this node first heard of it';
COMMENT ON COLUMN origin.updated_ms IS 'When its enrolment or environment last changed';
COMMENT ON COLUMN origin.seq IS 'Change number of this row';
COMMENT ON COLUMN origin.generation IS
    'How often an operator deleted it: secrets and tokens of an older one are refused';
COMMENT ON COLUMN origin.enrolled IS 'False: deleted, and not enrolled again since';
COMMENT ON COLUMN origin.environment IS
    'JSON it told about itself, NULL if nothing. Not jsonb, which refuses some valid JSON (\u0000, '
    'huge numbers): one machine''s text must not be able to fail the batch it shares with others';

CREATE TABLE lease (
    lease_ref        uuid     NOT NULL,
    home             uuid     NOT NULL,
    origin_ref       uuid     NOT NULL,
    scope_ref        uuid     NOT NULL,
    count            bigint   NOT NULL CHECK (count >= 1),
    created_ms       bigint   NOT NULL CHECK (created_ms > 0),
    duration_ms      bigint   NOT NULL CHECK (duration_ms > 0),
    expires_ms       bigint   NOT NULL,
    ended_ms         bigint   NOT NULL CHECK (ended_ms >= 0),
    ended_expires_ms bigint   NOT NULL CHECK (ended_expires_ms >= 0),
    seq              bigint   NOT NULL CHECK (seq > 0),
    state            smallint NOT NULL CHECK (state BETWEEN 0 AND 4),
    shared           boolean  NOT NULL,
    PRIMARY KEY (lease_ref, home),
    CONSTRAINT lease_expires_after_it_begins CHECK (expires_ms >= created_ms),
    CONSTRAINT lease_expires_grows CHECK (ended_expires_ms <= expires_ms),
    CONSTRAINT lease_end_fits_state CHECK ((state = 0) = (ended_ms = 0)),
    CONSTRAINT lease_end_has_expires CHECK ((ended_ms = 0) = (ended_expires_ms = 0))
) WITH (
    -- A renewal changes expires_ms and seq, which no index has: with room on the page it is a HOT
    -- update and touches no index. Keep it so.
    fillfactor = 75,
    autovacuum_vacuum_scale_factor = 0.05
);
CREATE INDEX lease_origin ON lease (origin_ref);

COMMENT ON TABLE lease IS 'Leases, and ended ones until they may be purged (R5)';
COMMENT ON COLUMN lease.lease_ref IS 'Reference; identifies the lease together with its home';
COMMENT ON COLUMN lease.home IS 'Node whose credits pay for it';
COMMENT ON COLUMN lease.origin_ref IS 'Machine that holds it';
COMMENT ON COLUMN lease.scope_ref IS 'What is leased';
COMMENT ON COLUMN lease.count IS 'Seats';
COMMENT ON COLUMN lease.created_ms IS 'When it was granted, on its home''s clock';
COMMENT ON COLUMN lease.duration_ms IS
    'What a renewal asks for, before the entitlement''s end cuts it';
COMMENT ON COLUMN lease.expires_ms IS 'May be used until every clock has passed it; grows only';
COMMENT ON COLUMN lease.ended_ms IS 'Clock of the node that ended it; 0 while active';
COMMENT ON COLUMN lease.ended_expires_ms IS 'expires_ms known when it ended (R5); 0 while active';
COMMENT ON COLUMN lease.seq IS 'Change number of this row';
COMMENT ON COLUMN lease.state IS
    '0 active, 1 released by its client, 2 revoked by an operator, 3 superseded (R9), '
    '4 expired (R7)';
COMMENT ON COLUMN lease.shared IS 'Another node may adopt it (R3)';
