-- Offsets that nobody has read and nobody can read any more: Kafka deleted them first.
CREATE TABLE ledger_gaps (
    stream       text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    first_offset bigint NOT NULL,
    end_offset   bigint NOT NULL,       -- the first offset behind the gap
    found_at     timestamptz NOT NULL DEFAULT now(),
    accepted_at  timestamptz,           -- since when a person knows of it, and `audit` is content
    PRIMARY KEY (stream, topic, partition, first_offset),
    CHECK (end_offset > first_offset)
);

-- Now: inserted + duplicate + dead_lettered + skipped + expired = next_offset - first_offset.
ALTER TABLE ledger
    ADD COLUMN expired bigint NOT NULL DEFAULT 0, -- offsets in ledger_gaps
    DROP CONSTRAINT ledger_check,
    ADD CONSTRAINT ledger_adds_up
        CHECK (inserted + duplicate + dead_lettered + skipped + expired = next_offset - first_offset);

-- Streams that pause because nearly all of their events would be dead letters.
CREATE TABLE breakers (
    stream    text NOT NULL,
    member    uuid NOT NULL,            -- of the consumer group
    opened_at timestamptz NOT NULL DEFAULT now(),
    probe_at  timestamptz NOT NULL,     -- when the batch that opened it is tried again
    reason    text NOT NULL,
    PRIMARY KEY (stream, member)
);
