-- How far a partition's events have come by their own time: what closes buckets of aggregates.
ALTER TABLE ledger
    ADD COLUMN event_time timestamptz,
    ADD COLUMN event_seen_at timestamptz; -- when an event came last that landed

-- Buckets of aggregates that changed since metrics were made of them. A late event puts its old bucket here again.
CREATE TABLE aggregate_changes (
    aggregate text NOT NULL,            -- its table
    bucket    timestamptz NOT NULL,     -- where it begins
    writer    integer NOT NULL,         -- a partition of the batch: sink tasks wait for each other nowhere
    PRIMARY KEY (aggregate, bucket, writer)
);

-- Averages, maxima and counts of the buckets that are closed.
CREATE TABLE metrics (
    aggregate  text NOT NULL,
    bucket     timestamptz NOT NULL,
    metric     text NOT NULL,           -- count, FIELD_avg, FIELD_max
    dimensions jsonb NOT NULL,
    value      double precision NOT NULL
);
-- Not unique: dimensions may be longer than a b-tree takes. A bucket's rows are made together.
CREATE INDEX metrics_bucket ON metrics (aggregate, bucket);

-- What somebody must be told, once for each alert and dimensions until it is over.
CREATE TABLE alerts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream      text NOT NULL,
    name        text NOT NULL,
    dimensions  jsonb NOT NULL,
    status      text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'resolved')),
    since       timestamptz NOT NULL,   -- of the first bucket in which the condition held
    opened_at   timestamptz NOT NULL,   -- the end of the bucket with which it had held for long enough
    resolved_at timestamptz,            -- the end of the bucket with which it was over for long enough
    resolution  text CHECK (resolution IN ('cleared', 'forgotten', 'withdrawn')),
    measured    jsonb NOT NULL,         -- what the condition saw in the bucket that opened it
    decided_at  timestamptz NOT NULL DEFAULT now(), -- when its status last changed here
    CHECK ((status = 'resolved') = (resolved_at IS NOT NULL)),
    CHECK ((status = 'resolved') = (resolution IS NOT NULL))
);
CREATE UNIQUE INDEX alerts_open ON alerts (stream, name, md5(dimensions::text)) WHERE status = 'open';
CREATE INDEX alerts_opened_at ON alerts (opened_at);

-- Up to where an alert's buckets have been looked at.
CREATE TABLE alert_progress (
    stream        text NOT NULL,
    name          text NOT NULL,
    dimensions    text[] NOT NULL,      -- by which it tells one from another
    decided_until timestamptz NOT NULL, -- the end of the last bucket
    PRIMARY KEY (stream, name)
);

-- What an alert has to remember of its series from one bucket to the next.
CREATE TABLE alert_series (
    stream         text NOT NULL,
    name           text NOT NULL,
    dimensions     jsonb NOT NULL,
    seen_at        timestamptz NOT NULL, -- its last bucket with an event
    holding_since  timestamptz,          -- not open: the first of the last buckets in which the condition held
    clearing_since timestamptz           -- open: the first of the last buckets in which it was over
);
CREATE UNIQUE INDEX alert_series_dimensions ON alert_series (stream, name, md5(dimensions::text));

-- Who has still to be told of what.
CREATE TABLE alert_outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id   bigint NOT NULL REFERENCES alerts ON DELETE CASCADE,
    status     text NOT NULL CHECK (status IN ('open', 'resolved')), -- what became of the alert
    target     text NOT NULL CHECK (target IN ('topic', 'webhook')),
    series     text NOT NULL,           -- of one alert and dimensions a target hears in order
    attempts   integer NOT NULL DEFAULT 0,
    next_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX alert_outbox_series ON alert_outbox (target, series, id);
