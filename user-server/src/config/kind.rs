//! The kinds of values of settings: the texts that are accepted, and the types that they become.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use super::units;

/// The values that a setting accepts. Every source provides texts. In a file, numbers and booleans are
/// accepted without quotes.
pub(crate) trait Kind {
    type Value;

    /// Whether the sample writes numbers and booleans without quotes.
    const BARE: bool = false;

    /// Whether it is a list: an array in a file, a repeated flag, a variable with commas.
    const LIST: bool = false;

    /// The accepted values, as the text after "wanted" in an error.
    fn wanted() -> String;

    fn parse(text: &str) -> Option<Self::Value>;

    /// Why a text is not accepted and what to write instead, for common mistakes.
    fn mistake(_: &str) -> Option<String> {
        None
    }

    /// The value of all texts. There is one text, except for lists and for optional settings.
    fn gather(texts: &[String]) -> Option<Self::Value> {
        texts.first().and_then(|text| Self::parse(text))
    }
}

/// True or false.
pub(crate) enum Switch {}

/// A whole number.
pub(crate) enum Count<const MIN: u32, const MAX: u32> {}

/// A fraction from 0 to 1.
pub(crate) enum Share {}

/// A duration. Zero is accepted.
pub(crate) enum Time {}

/// A duration above zero.
pub(crate) enum Period {}

/// A number of bytes, at least `MIN`.
pub(crate) enum Size<const MIN: usize> {}

/// The path of a file.
pub(crate) enum File {}

/// Any text that is not empty.
pub(crate) enum Text {}

/// One of the words of [`Choices`].
pub(crate) struct Choice<T>(PhantomData<T>);

/// A type whose values each have a word.
pub(crate) trait Choices: Copy + 'static {
    const ALL: &[(&str, Self)];
}

/// A setting that can be unset.
pub(crate) struct Optional<K>(PhantomData<K>);

/// A list of values: at least one if it is set.
pub(crate) struct Many<K>(PhantomData<K>);

/// A value, or a word that stands for `None`.
pub(crate) struct Or<W, K>(PhantomData<(W, K)>);

pub(crate) trait Word {
    const WORD: &str;
}

pub(crate) enum Auto {}
/// The only word for a limit, a timeout or a mode that is switched off.
pub(crate) enum Off {}

impl Word for Auto {
    const WORD: &str = "auto";
}

impl Word for Off {
    const WORD: &str = "off";
}

impl Kind for Switch {
    type Value = bool;
    const BARE: bool = true;

    fn wanted() -> String {
        "true or false".to_owned()
    }

    fn parse(text: &str) -> Option<bool> {
        text.parse().ok()
    }
}

impl<const MIN: u32, const MAX: u32> Kind for Count<MIN, MAX> {
    type Value = u32;
    const BARE: bool = true;

    fn wanted() -> String {
        match MAX {
            u32::MAX => format!("a whole number from {MIN}"),
            _ => format!("a whole number from {MIN} to {MAX}"),
        }
    }

    fn parse(text: &str) -> Option<u32> {
        text.parse().ok().filter(|number| (MIN..=MAX).contains(number))
    }
}

impl Kind for Share {
    type Value = f64;
    const BARE: bool = true;

    fn wanted() -> String {
        "a share from 0 to 1, such as 0.25".to_owned()
    }

    fn parse(text: &str) -> Option<f64> {
        text.parse().ok().filter(|share| (0.0..=1.0).contains(share))
    }
}

impl Kind for Time {
    type Value = Duration;

    fn wanted() -> String {
        units::DURATIONS.to_owned()
    }

    fn parse(text: &str) -> Option<Duration> {
        units::duration(text)
    }
}

impl Kind for Period {
    type Value = Duration;

    fn wanted() -> String {
        format!("{}, and not zero", units::DURATIONS)
    }

    fn parse(text: &str) -> Option<Duration> {
        units::duration(text).filter(|time| !time.is_zero())
    }
}

impl<const MIN: usize> Kind for Size<MIN> {
    type Value = usize;

    fn wanted() -> String {
        match MIN {
            0 => units::SIZES.to_owned(),
            1 => format!("{}, and not zero", units::SIZES),
            _ => format!("{}, and at least {MIN}B", units::SIZES),
        }
    }

    fn parse(text: &str) -> Option<usize> {
        units::size(text).filter(|bytes| *bytes >= MIN)
    }
}

impl Kind for File {
    type Value = PathBuf;

    fn wanted() -> String {
        "the path of a file".to_owned()
    }

    fn parse(text: &str) -> Option<PathBuf> {
        if text.is_empty() { None } else { Some(text.into()) }
    }
}

impl Kind for Text {
    type Value = String;

    fn wanted() -> String {
        "a text that is not empty".to_owned()
    }

    fn parse(text: &str) -> Option<String> {
        if text.is_empty() { None } else { Some(text.to_owned()) }
    }
}

impl<T: Choices> Kind for Choice<T> {
    type Value = T;

    fn wanted() -> String {
        let words: Vec<_> = T::ALL.iter().map(|(word, _)| *word).collect();
        match words.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => words.concat(),
        }
    }

    fn parse(text: &str) -> Option<T> {
        T::ALL.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }
}

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;
    const BARE: bool = K::BARE;

    fn wanted() -> String {
        K::wanted()
    }

    fn parse(text: &str) -> Option<Self::Value> {
        K::parse(text).map(Some)
    }

    fn mistake(text: &str) -> Option<String> {
        K::mistake(text)
    }

    fn gather(texts: &[String]) -> Option<Self::Value> {
        texts.first().map_or(Some(None), |text| Self::parse(text))
    }
}

impl<K: Kind> Kind for Many<K> {
    type Value = Vec<K::Value>;
    const LIST: bool = true;

    fn wanted() -> String {
        K::wanted()
    }

    fn parse(text: &str) -> Option<Self::Value> {
        K::parse(text).map(|value| vec![value])
    }

    fn mistake(text: &str) -> Option<String> {
        K::mistake(text)
    }

    fn gather(texts: &[String]) -> Option<Self::Value> {
        texts.iter().map(|text| K::parse(text)).collect()
    }
}

impl<W: Word, K: Kind> Kind for Or<W, K> {
    type Value = Option<K::Value>;
    const BARE: bool = K::BARE;

    fn wanted() -> String {
        format!("{}, or {}", K::wanted(), W::WORD)
    }

    fn parse(text: &str) -> Option<Self::Value> {
        if text == W::WORD { Some(None) } else { K::parse(text).map(Some) }
    }

    fn mistake(text: &str) -> Option<String> {
        K::mistake(text)
    }
}
