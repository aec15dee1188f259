//! Web events: visitors come, look, click, fill a basket, buy or leave. What a session may do next
//! depends on what it did last, so the counts form a funnel. Rarely the shop itself is out of order,
//! and most of what they try ends in an error.

use super::Generator;
use super::anomaly::{Anomalies, Anomaly, Current};
use super::common::{Chance, Clock, event_id, lasting_within, millis, pick, seeded};
use apache_avro::types::Value;
use apache_avro::{AvroResult, to_value};
use rand::RngExt;
use rand::seq::IndexedRandom;
use serde::Serialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// A generic event: what happened, when, and whatever else its sender says of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Idempotency key.
    #[serde(with = "uuid::serde::hyphenated")]
    pub event_id: Uuid,
    /// What happened.
    pub event_type: &'static str,
    /// When it happened, in milliseconds since 1970.
    pub occurred_at: i64,
    /// Session, user, path and what else belongs to the type.
    pub payload: BTreeMap<&'static str, String>,
}

/// Makes the events of many sessions at once.
#[derive(Debug)]
pub struct Events {
    chance: Chance,
    sessions: Vec<Session>,
    shop: Shop,
    anomalies: Anomalies,
}

impl Events {
    /// The users that belong to this seed.
    pub fn new(seed: u64) -> Self {
        let mut chance = seeded(seed);
        let shop = Shop::new(&mut chance);
        Events { chance, sessions: Vec::new(), shop, anomalies: Anomalies::default() }
    }

    /// The next event of some session.
    pub fn next(&mut self, at: OffsetDateTime) -> Event {
        self.shop.advance(at, &mut self.chance);
        let anomaly = self.shop.is_down.then_some("errors");
        self.anomalies.observe(&mut self.shop.anomaly, anomaly, at, || []);
        let index = self.chance.random_range(0..SESSIONS);
        let event_id = event_id(at, &mut self.chance);
        if index >= self.sessions.len() {
            self.sessions.push(Session::begin(at, &mut self.chance));
            return event(event_id, at, &self.sessions[self.sessions.len() - 1]);
        }
        let session = &mut self.sessions[index];
        session.go_on(self.shop.is_down, at, &mut self.chance);
        event(event_id, at, session)
    }
}

impl Generator for Events {
    fn reading(&mut self, at: OffsetDateTime) -> AvroResult<Value> {
        to_value(self.next(at))
    }

    fn anomalies(&self) -> Vec<Anomaly> {
        self.anomalies.list()
    }
}

const SESSIONS: usize = 40;
const USERS: u32 = 500;
/// A session ends when nothing was heard of it for so many seconds.
const IDLE: f64 = 30.0 * 60.0;

const SECTIONS: [&str; 5] = ["/", "/search", "/news", "/account", "/help"];
const REFERRERS: [&str; 4] = ["search", "newsletter", "social", "direct"];
const PROBLEMS: [(&str, u32); 3] = [("404", 6), ("500", 3), ("503", 1)];
const OUTAGES: [(&str, u32); 2] = [("500", 2), ("503", 3)];

/// What all sessions depend on.
#[derive(Debug)]
struct Shop {
    is_down: bool,
    /// Seconds until that changes.
    left: f64,
    clock: Clock,
    anomaly: Current,
}

impl Shop {
    fn new(chance: &mut Chance) -> Self {
        let left = Shop::lasting(false, chance);
        Shop { is_down: false, left, clock: Clock::default(), anomaly: Current::default() }
    }

    fn advance(&mut self, at: OffsetDateTime, chance: &mut Chance) {
        self.left -= self.clock.elapsed(at);
        if self.left < 0.0 {
            self.is_down = !self.is_down;
            self.left = Shop::lasting(self.is_down, chance);
        }
    }

    /// From the end of one outage to the beginning of the next, or from its beginning to its end.
    fn lasting(is_down: bool, chance: &mut Chance) -> f64 {
        if is_down {
            chance.random_range(360.0..720.0)
        } else {
            lasting_within(1900.0, 600.0..7200.0, chance)
        }
    }
}

/// What a session does next, by what it did last.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// The first page view of a session.
    Landing,
    PageView,
    Click,
    SignUp,
    AddToCart,
    Checkout,
    Purchase,
    Error,
    SessionEnd,
}

impl Step {
    fn followed_by(self) -> &'static [(Step, u32)] {
        match self {
            Step::Landing | Step::PageView => &[
                (Step::Click, 48),
                (Step::PageView, 20),
                (Step::AddToCart, 14),
                (Step::SignUp, 3),
                (Step::Error, 2),
                (Step::SessionEnd, 13),
            ],
            Step::Click => &[(Step::PageView, 88), (Step::Error, 3), (Step::SessionEnd, 9)],
            Step::SignUp => &[(Step::PageView, 90), (Step::SessionEnd, 10)],
            Step::AddToCart => {
                &[(Step::PageView, 50), (Step::Checkout, 38), (Step::SessionEnd, 12)]
            }
            Step::Checkout => &[(Step::Purchase, 70), (Step::Error, 5), (Step::SessionEnd, 25)],
            Step::Purchase => &[(Step::PageView, 20), (Step::SessionEnd, 80)],
            Step::Error => &[(Step::PageView, 65), (Step::SessionEnd, 35)],
            // somebody else takes the place of one who left
            Step::SessionEnd => &[(Step::Landing, 1)],
        }
    }

    fn event_type(self) -> &'static str {
        match self {
            Step::Landing | Step::PageView => "page_view",
            Step::Click => "click",
            Step::SignUp => "sign_up",
            Step::AddToCart => "add_to_cart",
            Step::Checkout => "checkout",
            Step::Purchase => "purchase",
            Step::Error => "error",
            Step::SessionEnd => "session_end",
        }
    }
}

#[derive(Debug)]
struct Session {
    id: Uuid,
    user: u32,
    last: Step,
    path: String,
    /// In cents.
    basket: u32,
    /// What only this type of event tells.
    detail: Option<(&'static str, String)>,
    clock: Clock,
}

impl Session {
    fn begin(at: OffsetDateTime, chance: &mut Chance) -> Self {
        let mut session = Session {
            id: event_id(at, chance),
            user: chance.random_range(1..=USERS),
            last: Step::Landing,
            path: path(chance),
            basket: 0,
            detail: REFERRERS.choose(chance).map(|from| ("referrer", (*from).to_owned())),
            clock: Clock::default(),
        };
        session.clock.elapsed(at);
        session
    }

    fn go_on(&mut self, shop_is_down: bool, at: OffsetDateTime, chance: &mut Chance) {
        let tried = pick(self.last.followed_by(), chance);
        let fails = shop_is_down && tried != Step::Landing && chance.random_bool(0.6);
        let step = if fails { Step::Error } else { tried };
        if step == Step::Landing || self.clock.elapsed(at) > IDLE {
            *self = Session::begin(at, chance);
            return;
        }
        self.last = step;
        self.detail = match step {
            Step::PageView => {
                self.path = path(chance);
                None
            }
            Step::Click => Some(("element", format!("button-{}", chance.random_range(1..=12)))),
            Step::SignUp => {
                Some(("plan", if chance.random() { "free" } else { "plus" }.to_owned()))
            }
            Step::AddToCart => {
                let price = chance.random_range(5..200) * 100 - 1;
                self.basket += price;
                Some(("price", money(price)))
            }
            Step::Checkout => Some(("amount", money(self.basket))),
            Step::Purchase => Some(("amount", money(std::mem::take(&mut self.basket)))),
            Step::Error => {
                let status = if fails { pick(&OUTAGES, chance) } else { pick(&PROBLEMS, chance) };
                Some(("status", status.to_owned()))
            }
            Step::Landing | Step::SessionEnd => None,
        };
    }
}

fn event(event_id: Uuid, at: OffsetDateTime, session: &Session) -> Event {
    let mut payload = BTreeMap::from([
        ("session_id", session.id.to_string()),
        ("user_id", format!("user-{:03}", session.user)),
        ("path", session.path.clone()),
    ]);
    payload.extend(session.detail.clone());
    Event { event_id, event_type: session.last.event_type(), occurred_at: millis(at), payload }
}

fn path(chance: &mut Chance) -> String {
    match SECTIONS.choose(chance) {
        Some(section) if chance.random_bool(0.4) => (*section).to_owned(),
        _ => format!("/products/{}", chance.random_range(1..=60)),
    }
}

fn money(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
