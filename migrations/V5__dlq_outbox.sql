-- No letter may come, or be copied, between the statements.
LOCK TABLE dlq_events IN ACCESS EXCLUSIVE MODE;

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

-- The first eight bytes of SHA-256 of event_id and payload: what is the same again is found by it. Null without one of
-- them. The table is written anew, so that none of its rows is there twice.
DROP INDEX dlq_events_same;
ALTER TABLE dlq_events ADD fingerprint bigint;
ALTER TABLE dlq_events ALTER fingerprint TYPE bigint
USING ('x' || encode(substr(sha256(convert_to(event_id, 'UTF8') || payload), 1, 8), 'hex'))::bit(64)::bigint;
CREATE INDEX dlq_events_fingerprint ON dlq_events (fingerprint);
