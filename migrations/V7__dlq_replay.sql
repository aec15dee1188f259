ALTER TABLE dlq_events
    ADD COLUMN record_time bigint,                 -- the record's timestamp, in milliseconds since 1970
    ADD COLUMN replays integer NOT NULL DEFAULT 0, -- how often it was replayed in vain
    -- since when key, payload, headers, event and detail are gone: that there was one is not forgotten
    ADD COLUMN purged_at timestamptz;

-- Dead letters of a partition that landed after all, by replay: rows of the table that `inserted` does not count.
ALTER TABLE ledger ADD COLUMN replayed bigint NOT NULL DEFAULT 0;

-- What people did about dead letters, and what came of it.
CREATE TABLE dlq_history (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_id bigint NOT NULL REFERENCES dlq_events ON DELETE CASCADE,
    at        timestamptz NOT NULL DEFAULT now(),
    who       text NOT NULL,
    action    text NOT NULL CHECK (action IN ('replayed', 'refused', 'edited', 'parked', 'discarded', 'reopened',
                                             'purged')),
    note      text NOT NULL DEFAULT '',
    payload   bytea                     -- of an edited event: what was replayed in place of the original
);
CREATE INDEX dlq_history_letter ON dlq_history (letter_id);
