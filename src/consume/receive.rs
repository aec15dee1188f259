//! A message of librdkafka's as a record of ours.

use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers as _},
};

use crate::{
    batch::{Headers, Record},
    panics::caught,
};

/// Copies a message out of librdkafka's memory.
pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers(message),
    }
}

/// rdkafka panics on a header whose name is not UTF-8, and anybody may write one.
fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let Some(headers) = message.headers() else { return Headers::default() };
    let read = || {
        let header = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        };
        headers.iter().map(header).collect()
    };
    caught(read).map_or(Headers::Unreadable, Headers::Known)
}
