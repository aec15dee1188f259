//! Tunables of contracts, overridden without touching the schema.

use std::str::FromStr;

use anyhow::{Context, bail};
use serde_json::{Map, Value as Json};

use crate::contract::Contract;

/// `STREAM.PATH=JSON`: one tunable of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamOverride {
    stream: String,
    path: Vec<String>,
    value: Json,
}

impl FromStr for ParamOverride {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "expected STREAM.PATH=JSON, such as devices.limits.heat=80".to_owned();
        let (place, value) = text.split_once('=').ok_or_else(wrong)?;
        let mut path = place.split('.').map(str::to_owned);
        let stream = path.next().filter(|stream| !stream.is_empty()).ok_or_else(wrong)?;
        let path: Vec<String> = path.collect();
        if path.is_empty() {
            return Err(wrong());
        }
        // a word without quotes is meant as a text
        let value = serde_json::from_str(value).unwrap_or_else(|_| Json::String(value.to_owned()));
        Ok(ParamOverride { stream, path, value })
    }
}

/// Overrides tunables, those of the file first. One that the contract does not have, or that is
/// of another type there, is an error.
pub(super) fn apply(
    contracts: &mut [Contract],
    file: &Map<String, Json>,
    flags: &[ParamOverride],
) -> anyhow::Result<()> {
    for (stream, params) in file {
        let contract = find(contracts, stream)?;
        merge(&mut contract.params, params).with_context(|| format!("params.{stream}"))?;
    }
    for flag in flags {
        let contract = find(contracts, &flag.stream)?;
        let nested = flag.path.iter().rev().fold(flag.value.clone(), |inner, key| {
            Json::Object(Map::from_iter([(key.clone(), inner)]))
        });
        merge(&mut contract.params, &nested).with_context(|| format!("--param {}", flag.stream))?;
    }
    Ok(())
}

fn find<'c>(contracts: &'c mut [Contract], stream: &str) -> anyhow::Result<&'c mut Contract> {
    let known: Vec<_> = contracts.iter().map(|contract| contract.stream.as_str()).collect();
    let expected = known.join(", ");
    contracts.iter_mut().find(|contract| contract.stream == stream).with_context(|| {
        format!("params of \"{stream}\": there is no such stream; expected one of {expected}")
    })
}

fn merge(into: &mut Json, from: &Json) -> anyhow::Result<()> {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            for (key, value) in from {
                if !into.contains_key(key) {
                    let known: Vec<_> = into.keys().map(String::as_str).collect();
                    let known = known.join(", ");
                    bail!("\"{key}\" is not in the contract's params; expected one of {known}");
                }
                merge(&mut into[key], value).with_context(|| key.clone())?;
            }
        }
        (Json::Number(old), Json::Number(new)) => *old = alike(old, new),
        (into, from) if std::mem::discriminant(into) == std::mem::discriminant(from) => {
            *into = from.clone();
        }
        (into, from) => bail!("is {from}; expected a value like the contract's {into}"),
    }
    Ok(())
}

/// A number in the kind of the contract's own, so that `80` overrides `80.0` as a double.
fn alike(old: &serde_json::Number, new: &serde_json::Number) -> serde_json::Number {
    let double = new.as_f64().filter(|_| old.is_f64()).and_then(serde_json::Number::from_f64);
    double.unwrap_or_else(|| new.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tunable_is_overridden_in_place() {
        let mut params = json!({"limits": {"heat": 80.0, "cold": 2}});
        merge(&mut params, &json!({"limits": {"heat": 90}})).unwrap();
        assert_eq!(params, json!({"limits": {"heat": 90.0, "cold": 2}}));
    }

    #[test]
    fn a_tunable_that_is_not_there_or_of_another_type_is_refused() {
        let params = json!({"limits": {"heat": 80.0}});
        for wrong in [
            json!({"limits": {"hea": 1}}),
            json!({"limits": {"heat": "hot"}}),
            json!({"limits": 1}),
        ] {
            assert!(merge(&mut params.clone(), &wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_flag_names_stream_path_and_value() {
        let flag: ParamOverride = "devices.limits.heat=80.5".parse().unwrap();
        assert_eq!(flag.stream, "devices");
        assert_eq!(flag.path, ["limits", "heat"]);
        assert_eq!(flag.value, json!(80.5));
        assert!("devices=1".parse::<ParamOverride>().is_err());
    }
}
