//! What a user of Kafka may do, asked for in Kafka's own protocol: librdkafka's wrapper can't.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

pub const READ: u8 = 3;
pub const WRITE: u8 = 4;
pub const CREATE: u8 = 5;

/// That a user may do something with all topics, or groups, of a prefix.
pub struct Allowed<'a> {
    resource: u8,
    prefix: &'a str,
    user: &'a str,
    operation: u8,
}

pub fn topic<'a>(prefix: &'a str, user: &'a str, operation: u8) -> Allowed<'a> {
    Allowed { resource: 2, prefix, user, operation }
}

pub fn group<'a>(prefix: &'a str, user: &'a str, operation: u8) -> Allowed<'a> {
    Allowed { resource: 3, prefix, user, operation }
}

/// Sends `CreateAcls`, version 1.
pub fn allow(broker: &str, allowed: &[Allowed<'_>]) {
    let mut request = vec![0, 30, 0, 1, 0, 0, 0, 1, 0xff, 0xff];
    request.extend(u32::try_from(allowed.len()).unwrap().to_be_bytes());
    let text =
        |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    for Allowed { resource, prefix, user, operation } in allowed {
        const PREFIXED: u8 = 4;
        const ALLOW: u8 = 3;
        request.push(*resource);
        request.extend(text(prefix));
        request.push(PREFIXED);
        request.extend(text(&format!("User:{user}")));
        request.extend(text("*"));
        request.extend([*operation, ALLOW]);
    }
    let mut connection = TcpStream::connect(broker).unwrap();
    connection.write_all(&u32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    connection.write_all(&request).unwrap();
    let mut length = [0; 4];
    connection.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    connection.read_exact(&mut answer).unwrap();
    // correlation, throttle and count; then a code and an empty message for each
    let results: Vec<&[u8]> = answer[12..].chunks(4).collect();
    assert_eq!(results, vec![&[0; 4][..]; allowed.len()]);
}
