-- A dead letter that was there before has the same id and the same bytes. Of many with one id and other bytes, as of a
-- producer that has lost its ids, none is looked at in vain.
CREATE INDEX dlq_events_same ON dlq_events USING hash ((event_id || encode(sha256(payload), 'hex')));
DROP INDEX dlq_events_event_id;
