//! A message of librdkafka's as a record of ours.

use bytes::{Bytes, BytesMut};
use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers as _},
};

use crate::{
    batch::{Headers, Record},
    panics::caught,
};

/// How much memory is asked for at once, in bytes.
const PIECE: usize = 64 << 10;

/// What is larger than that, in bytes, has memory of its own.
const SHARED: usize = PIECE / 16;

/// Copies a message out of librdkafka's memory, into a piece that many messages share.
pub(super) fn record(message: &BorrowedMessage<'_>, piece: &mut BytesMut) -> Record {
    let mut copied = |bytes: &[u8]| {
        // a piece with a large one in it would be mostly air
        if bytes.len() > SHARED {
            return Bytes::copy_from_slice(bytes);
        }
        if piece.capacity() < bytes.len() {
            *piece = BytesMut::with_capacity(PIECE);
        }
        piece.extend_from_slice(bytes);
        piece.split().freeze()
    };
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(&mut copied),
        value: message.payload().map(&mut copied),
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
