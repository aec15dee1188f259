-- What became of every offset of every partition:
-- inserted + duplicate + dead_lettered + skipped = next_offset - first_offset.
CREATE TABLE ledger (
    stream        text NOT NULL,
    topic         text NOT NULL,
    partition     integer NOT NULL,
    first_offset  bigint NOT NULL,
    next_offset   bigint NOT NULL,
    inserted      bigint NOT NULL DEFAULT 0,
    duplicate     bigint NOT NULL DEFAULT 0,
    dead_lettered bigint NOT NULL DEFAULT 0,
    skipped       bigint NOT NULL DEFAULT 0, -- offsets without an event: compacted, aborted, control
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, topic, partition),
    CHECK (inserted + duplicate + dead_lettered + skipped = next_offset - first_offset)
);
