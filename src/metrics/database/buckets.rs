//! Each aggregate's newest closed bucket: a gauge a metric, and a series for each set of dimensions.

use ::metrics::{Label, describe_gauge, gauge};
use serde_json::Value as Json;
use sqlx::PgConnection;

use super::{
    super::list::{BUCKET, OMITTED, escaped},
    figures::number,
};
use crate::contract::Contract;

/// Label names that mean something else to Prometheus.
const RESERVED: [&str; 2] = ["le", "quantile"];

/// How an aggregate is shown.
#[derive(Debug)]
pub(super) struct Shown {
    /// The aggregate's table.
    aggregate: String,
    /// What the names of its gauges begin with.
    name: String,
    /// Each dimension and its label's name.
    labels: Vec<(String, String)>,
}

/// An aggregate's newest closed bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Where it begins, in seconds since 1970.
    begin: f64,
    /// Metric, dimensions, value.
    values: Vec<(String, Json, f64)>,
    /// How many sets of dimensions are left out.
    omitted: i64,
}

/// How the aggregates of all contracts are shown, each under a name of its own.
pub(super) fn shown(contracts: &[Contract]) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    for aggregate in contracts.iter().flat_map(|contract| &contract.aggregates) {
        let table = &*aggregate.table;
        let short = legal(table.strip_prefix("agg_").unwrap_or(table));
        let name = unique(format!("sluicegate_{short}"), |name| {
            shown.iter().any(|other| other.name == name)
        });
        let labels = labels(aggregate.by.iter().map(|column| &*column.name));
        shown.push(Shown { aggregate: table.to_owned(), name, labels });
    }
    shown
}

impl Shown {
    /// Tells the recorder in force.
    pub(super) fn show(&self, bucket: Option<&Bucket>) {
        let omitted = bucket.map(|bucket| bucket.omitted);
        OMITTED.gauge(&[&self.aggregate]).set(number(omitted));
        let Some(bucket) = bucket else { return };
        BUCKET.gauge(&[&self.aggregate]).set(bucket.begin);
        for (metric, dimensions, value) in &bucket.values {
            let name = self.gauge_name(metric);
            describe_gauge!(name.clone(), self.help(metric));
            gauge!(name, self.labels(dimensions)).set(*value);
        }
    }

    fn gauge_name(&self, metric: &str) -> String {
        let metric = if metric == "count" { "events" } else { metric };
        format!("{}_{}", self.name, legal(metric))
    }

    fn help(&self, metric: &str) -> String {
        let what = match metric.rsplit_once('_') {
            Some((field, "avg")) => format!("Average of {field}"),
            Some((field, "max")) => format!("Maximum of {field}"),
            _ if metric == "count" => "Events".to_owned(),
            _ => metric.to_owned(),
        };
        format!("{what} in the newest closed bucket of {}", self.aggregate)
    }

    /// A dimension that is null has an empty value, which to Prometheus is none.
    fn labels(&self, dimensions: &Json) -> Vec<Label> {
        let value = |dimension: &str| match dimensions.get(dimension) {
            None | Some(Json::Null) => String::new(),
            Some(Json::String(text)) => escaped(text),
            Some(other) => escaped(&other.to_string()),
        };
        let label =
            |(dimension, label): &(String, String)| Label::new(label.clone(), value(dimension));
        self.labels.iter().map(label).collect()
    }
}

impl Bucket {
    /// Reads the sets of dimensions with the most events, by way of the table's primary key; none
    /// where no bucket is closed yet.
    pub(super) async fn read(
        connection: &mut PgConnection,
        shown: &Shown,
        most: usize,
    ) -> sqlx::Result<Option<Bucket>> {
        let newest: Option<(sqlx::types::time::OffsetDateTime, f64)> = sqlx::query_as(
            "SELECT bucket, extract(epoch FROM bucket)::double precision FROM metrics \
             WHERE aggregate = $1 ORDER BY bucket DESC LIMIT 1",
        )
        .bind(&shown.aggregate)
        .fetch_optional(&mut *connection)
        .await?;
        let Some((bucket, begin)) = newest else { return Ok(None) };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let sets: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM metrics WHERE aggregate = $1 AND bucket = $2 AND metric = 'count'",
        )
        .bind(&shown.aggregate)
        .bind(bucket)
        .fetch_one(&mut *connection)
        .await?;
        let values = sqlx::query_as(
            "SELECT metric, dimensions, value FROM metrics \
             JOIN (SELECT dimensions FROM metrics \
             WHERE aggregate = $1 AND bucket = $2 AND metric = 'count' \
             ORDER BY value DESC, dimensions LIMIT $3) AS most USING (dimensions) \
             WHERE aggregate = $1 AND bucket = $2",
        )
        .bind(&shown.aggregate)
        .bind(bucket)
        .bind(most)
        .fetch_all(connection)
        .await?;
        Ok(Some(Bucket { begin, values, omitted: sets.saturating_sub(most).max(0) }))
    }
}

/// Each dimension and its label's name: a legal one that means nothing else, and no two the same.
fn labels<'d>(dimensions: impl Iterator<Item = &'d str>) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = Vec::new();
    for dimension in dimensions {
        let mut label = legal(dimension);
        if label.starts_with("__") || RESERVED.contains(&&*label) {
            label = format!("by_{label}");
        }
        let label = unique(label, |label| labels.iter().any(|(_, other)| other == label));
        labels.push((dimension.to_owned(), label));
    }
    labels
}

/// A name in Prometheus' grammar, wherever it stands: what is not a letter, digit or underscore is
/// an underscore.
fn legal(name: &str) -> String {
    let starts_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let start = if starts_with_digit { "_" } else { "" };
    start.chars().chain(name.chars().map(legal)).collect()
}

/// The name, with underscores behind it where others have it.
fn unique(mut name: String, is_taken: impl Fn(&str) -> bool) -> String {
    while is_taken(&name) {
        name.push('_');
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::super::recorder, *};

    fn of(aggregate: &str, name: &str, dimensions: &[&str]) -> Shown {
        let labels = labels(dimensions.iter().copied());
        Shown { aggregate: aggregate.to_owned(), name: name.to_owned(), labels }
    }

    fn text(shown: &Shown, bucket: Option<&Bucket>) -> String {
        let recorder = recorder().unwrap();
        ::metrics::with_local_recorder(&recorder, || shown.show(bucket));
        let text = recorder.handle().render();
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        lines.join("\n")
    }

    #[test]
    fn label_names_are_legal_mean_nothing_else_and_are_told_apart() {
        let dimensions = ["route", "le", "__x", "höhe", "h_he", "1st", "by_le"];
        let labels = labels(dimensions.into_iter());
        let names: Vec<&str> = labels.iter().map(|(_, label)| &**label).collect();
        let expected = ["route", "by_le", "by___x", "h_he", "h_he_", "_1st", "by_le_"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_bucket_is_a_gauge_a_metric_and_a_series_a_set_of_dimensions() {
        let shown = of("agg_bus_minute", "sluicegate_bus_minute", &["route", "is_late"]);
        let series = |metric: &str, route: Json, late: Json, value| {
            (metric.to_owned(), json!({"route": route, "is_late": late}), value)
        };
        let values = vec![
            series("count", json!("R\"1"), json!(true), 3.0),
            series("count", json!(null), json!(7), 1.0),
            series("speed_kmh_avg", json!("R\"1"), json!(true), 21.5),
        ];
        let bucket = Bucket { begin: 1_777_636_800.0, values, omitted: 2 };
        insta::assert_snapshot!(text(&shown, Some(&bucket)), @r#"
        # HELP sluicegate_bus_minute_events Events in the newest closed bucket of agg_bus_minute
        # HELP sluicegate_bus_minute_speed_kmh_avg Average of speed_kmh in the newest closed bucket of agg_bus_minute
        # TYPE sluicegate_aggregate_bucket_timestamp_seconds gauge
        # TYPE sluicegate_aggregate_series_omitted gauge
        # TYPE sluicegate_bus_minute_events gauge
        # TYPE sluicegate_bus_minute_speed_kmh_avg gauge
        sluicegate_aggregate_bucket_timestamp_seconds{aggregate="agg_bus_minute"} 1777636800
        sluicegate_aggregate_series_omitted{aggregate="agg_bus_minute"} 2
        sluicegate_bus_minute_events{route="",is_late="7"} 1
        sluicegate_bus_minute_events{route="R\"1",is_late="true"} 3
        sluicegate_bus_minute_speed_kmh_avg{route="R\"1",is_late="true"} 21.5
        "#);
        insta::assert_snapshot!(text(&shown, None), @r#"
        # TYPE sluicegate_aggregate_series_omitted gauge
        sluicegate_aggregate_series_omitted{aggregate="agg_bus_minute"} 0
        "#);
    }

    #[test]
    fn names_of_tables_become_legal_and_no_two_aggregates_share_one() {
        assert_eq!(legal("2 m-ä"), "_2_m__");
        let avsc = |name: &str| {
            json!({"type": "record", "name": "R", "sluicegate": {"time": "ts",
            "aggregates": [{"name": name, "every": "1m", "by": ["d"]}]},
            "fields": [{"name": "event_id", "type": "string"}, {"name": "d", "type": "string"},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}}]})
        };
        let contract = |stream: &str, name: &str| {
            Contract::parse(stream.as_ref(), avsc(name).to_string()).unwrap()
        };
        let contracts = [contract("a.avsc", "agg_x-y"), contract("b.avsc", "x y")];
        let shown: Vec<String> = shown(&contracts).into_iter().map(|shown| shown.name).collect();
        assert_eq!(shown, ["sluicegate_x_y", "sluicegate_x_y_"]);
    }
}
