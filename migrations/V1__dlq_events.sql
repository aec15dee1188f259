-- Events that could not land, kept whole so that they can be explained and replayed.
CREATE TABLE dlq_events (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream       text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    "offset"     bigint NOT NULL,
    key          bytea,                 -- as it came; null where there was none
    payload      bytea,                 -- as it came; null for a tombstone
    headers      jsonb NOT NULL DEFAULT '[]',
    schema_id    bigint,
    event_id     text,
    stage        text NOT NULL,         -- wire, decode, check, label or land
    reason       text NOT NULL,         -- a code to count by, such as truncated_body
    detail       text NOT NULL,
    decoded      jsonb,
    event_time   timestamptz,           -- the event's own, else the Kafka record's
    seen_at      timestamptz NOT NULL DEFAULT now(),
    attempts     integer NOT NULL DEFAULT 1,
    status       text NOT NULL DEFAULT 'pending'
                 CHECK (status IN ('pending', 'replayed', 'parked', 'discarded')),
    published_at timestamptz,           -- when the copy on the dead-letter topic was acknowledged
    UNIQUE (stream, topic, partition, "offset")
);

CREATE INDEX dlq_events_unpublished ON dlq_events (stream, id) WHERE published_at IS NULL;
CREATE INDEX dlq_events_reason ON dlq_events (stream, reason, seen_at);
-- a hash, because an id may be longer than a b-tree takes
CREATE INDEX dlq_events_event_id ON dlq_events USING hash (event_id);
