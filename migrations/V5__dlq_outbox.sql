-- Dead letters whose copy is not on the dead-letter topic yet. A table of its own, because a mark in dlq_events would be a
-- second version of the whole row, in each of its indexes. Without a foreign key, which would look up each letter.
CREATE TABLE dlq_outbox (
    stream text NOT NULL,
    id     bigint NOT NULL,             -- of dlq_events
    PRIMARY KEY (stream, id)
);
INSERT INTO dlq_outbox SELECT stream, id FROM dlq_events WHERE published_at IS NULL;
DROP INDEX dlq_events_unpublished;
ALTER TABLE dlq_events DROP COLUMN published_at;

-- The first eight bytes of SHA-256 of event_id and payload: what is the same again is found by it. Null without an event_id.
ALTER TABLE dlq_events ADD fingerprint bigint;
UPDATE dlq_events
SET fingerprint = ('x' || encode(substr(sha256(convert_to(event_id, 'UTF8') || payload), 1, 8), 'hex'))::bit(64)::bigint;
DROP INDEX dlq_events_same;
CREATE INDEX dlq_events_fingerprint ON dlq_events (fingerprint);
