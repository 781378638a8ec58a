//! Kinds of values of the rate limit settings.

use std::num::NonZeroU32;
use std::time::Duration;

use super::kind::{Kind, Period};
use balafon::interceptors::MethodPattern;
use balafon::interceptors::TrustedProxy;
use balafon::interceptors::rate_limit::RedisUrl;

/// A rate limit for methods: `*/GetUser=100/1m`.
pub(crate) enum RateRule {}

/// The URL of a Redis server.
pub(crate) enum Redis {}

/// A peer whose headers about the client's address are trusted.
pub(crate) enum Proxy {}

/// A number of calls or messages per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    Calls(u32, Duration),
    Messages(u32, Duration),
}

/// The methods and their rate. `None` is `off`: no limit of calls and messages.
impl Kind for RateRule {
    type Value = (MethodPattern, Option<Rate>);

    fn wanted() -> String {
        "METHODS=CALLS/TIME, METHODS=COUNTmessages/TIME or METHODS=off, such as *=100/1m or \
         */CreateUsers=10000messages/1m, where METHODS is package.Service/Method, \
         package.Service/*, */Method or *"
            .to_owned()
    }

    fn parse(text: &str) -> Option<Self::Value> {
        let (methods, rate) = text.rsplit_once('=')?;
        let rate = match rate {
            "off" => None,
            _ => {
                let (count, period) = rate.split_once('/')?;
                let period = Period::parse(period)?;
                let number = |text: &str| text.parse().ok().map(NonZeroU32::get);
                Some(match count.strip_suffix("messages") {
                    Some(messages) => Rate::Messages(number(messages.trim_end())?, period),
                    None => Rate::Calls(number(count)?, period),
                })
            }
        };
        Some((methods.parse().ok()?, rate))
    }
}

impl Kind for Redis {
    type Value = RedisUrl;

    fn wanted() -> String {
        "redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE], the same with rediss://, or \
         redis+unix:///PATH"
            .to_owned()
    }

    fn parse(text: &str) -> Option<RedisUrl> {
        text.parse().ok()
    }
}

impl Kind for Proxy {
    type Value = TrustedProxy;

    fn wanted() -> String {
        "an address, a network such as 10.0.0.0/8, or unix".to_owned()
    }

    fn parse(text: &str) -> Option<TrustedProxy> {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limit_rule_is_methods_and_a_rate() {
        let rate = |text| RateRule::parse(text).map(|(_, rate)| rate);
        let minute = Duration::from_secs(60);
        assert_eq!(rate("*=100/1m"), Some(Some(Rate::Calls(100, minute))));
        let calls = Rate::Calls(1, Duration::from_millis(500));
        assert_eq!(rate("a.B/*=1/500ms"), Some(Some(calls)));
        for text in ["*/C=7messages/1m", "*/C=7 messages/1m"] {
            assert_eq!(rate(text), Some(Some(Rate::Messages(7, minute))), "{text}");
        }
        assert_eq!(rate("*/C=off"), Some(None));
        for text in [
            "",
            "*",
            "*=",
            "*=100",
            "*=messages/1m",
            "*=0messages/1m",
            "*=1message/1m",
            "*=0/1m",
            "*=-1/1m",
            "*=1/0s",
            "*=1/m",
            "B=1/1m",
            "=1/1m",
        ] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
