//! Sending a record that was on a topic before, as it was.

use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode,
    util::Timeout,
};

/// How often a record is sent again because of what it shares a batch with.
const AGAIN: u32 = 5;

/// Sends a record with the time that it had, in milliseconds since 1970, and with the present where the
/// topic refuses that; returns when the broker has it.
///
/// A broker refuses a whole batch, and librdkafka says which of its records are why: `InvalidTimestamp`
/// of one that is alone in that, `InvalidRecord` of each of several.
pub(crate) async fn send_with_its_time<'r>(
    producer: &FutureProducer,
    time: Option<i64>,
    patience: Timeout,
    record: impl Fn() -> FutureRecord<'r, [u8], [u8]>,
) -> Result<(), KafkaError> {
    use RDKafkaErrorCode::{InvalidDifferentRecord, InvalidRecord, InvalidTimestamp};
    // librdkafka takes 0 for now
    let mut time = time.filter(|millis| *millis > 0);
    let mut attempts = 0..AGAIN;
    loop {
        let again = FutureRecord { timestamp: time, ..record() };
        let Err((error, _)) = producer.send(again, patience).await else { return Ok(()) };
        match error.rdkafka_error_code() {
            Some(InvalidTimestamp | InvalidRecord) if time.is_some() => time = None,
            Some(InvalidDifferentRecord) if attempts.next().is_some() => {}
            _ => return Err(error),
        }
    }
}
