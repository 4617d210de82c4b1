//! Relations between topic filters: one covers another, two overlap.
//!
//! A filter stands for the set of topic names it matches (section 4.7 of MQTT 5.0). `covers` asks for inclusion of
//! those sets, `overlaps` for a common member. A filter that begins with a wildcard holds no topic that begins with
//! `$` [MQTT-4.7.2-1], so `#` neither covers nor overlaps `$SYS/#`.

/// A level of the filter on the left: plain text, or something that knows which texts it is equal to.
pub(super) trait PatternLevel: Copy {
    /// `+`: any one level.
    fn is_plus(self) -> bool;
    /// `#`: any number of levels.
    fn is_hash(self) -> bool;
    /// True if this level, no wildcard, is this text.
    fn is_text(self, text: &str) -> bool;
    /// True if this level's text begins with `$`.
    fn is_dollar(self) -> bool;
}

impl PatternLevel for &str {
    fn is_plus(self) -> bool {
        self == "+"
    }

    fn is_hash(self) -> bool {
        self == "#"
    }

    fn is_text(self, text: &str) -> bool {
        self == text
    }

    fn is_dollar(self) -> bool {
        self.starts_with('$')
    }
}

/// True if every topic that `asked` matches is matched by `filter` too.
///
/// Both must be valid filters without `$share/name/`. A topic name is the filter that matches only itself, so this
/// also says whether a filter matches a topic name.
///
/// ```
/// use nightjar_broker::acl::covers;
/// assert!(covers("t/#", "t/+") && covers("t/#", "t") && covers("+/#", "#"));
/// assert!(!covers("t/+", "t/#") && !covers("#", "$SYS/#"));
/// ```
pub fn covers(filter: &str, asked: &str) -> bool {
    covers_levels(filter.split('/'), asked)
}

/// True if at least one topic is matched by both filters. Both must be valid filters without `$share/name/`.
///
/// ```
/// use nightjar_broker::acl::overlaps;
/// assert!(overlaps("secret/#", "#") && overlaps("+/a", "b/+") && overlaps("a/#", "a"));
/// assert!(!overlaps("#", "$SYS/#") && !overlaps("a/b", "a/+/c"));
/// ```
pub fn overlaps(filter: &str, asked: &str) -> bool {
    overlaps_levels(filter.split('/'), asked)
}

/// True if a valid filter holds a wildcard, so that it matches more than its own text.
pub(super) fn is_wild(filter: &str) -> bool {
    filter.bytes().any(|b| matches!(b, b'+' | b'#'))
}

pub(super) fn covers_levels<L: PatternLevel>(
    mut pattern: impl Iterator<Item = L>,
    asked: &str,
) -> bool {
    let mut asked = asked.split('/');
    let mut first = true;
    loop {
        match (pattern.next(), asked.next()) {
            (None, None) => return true,
            (Some(p), level) if p.is_hash() => {
                return !(first && level.is_some_and(|level| level.starts_with('$')));
            }
            (None, Some(_)) | (Some(_), None) => return false,
            // A topic has at least one level, so `#` in front is the same set as `+/#`. Further down `#` holds the
            // parent level too, which only `#` covers.
            (Some(p), Some("#")) => {
                return first && p.is_plus() && pattern.next().is_some_and(PatternLevel::is_hash);
            }
            (Some(p), Some(level)) if p.is_plus() => {
                if first && level.starts_with('$') {
                    return false;
                }
            }
            (Some(p), Some(level)) => {
                if level == "+" || !p.is_text(level) {
                    return false;
                }
            }
        }
        first = false;
    }
}

pub(super) fn overlaps_levels<L: PatternLevel>(
    mut pattern: impl Iterator<Item = L>,
    asked: &str,
) -> bool {
    let mut asked = asked.split('/');
    let mut first = true;
    loop {
        match (pattern.next(), asked.next()) {
            (None, None | Some("#")) => return true,
            (Some(p), level) if p.is_hash() => {
                return !(first && level.is_some_and(|level| level.starts_with('$')));
            }
            (Some(p), Some("#")) => return !(first && p.is_dollar()),
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(p), Some("+")) => {
                if first && p.is_dollar() {
                    return false;
                }
            }
            (Some(p), Some(level)) if p.is_plus() => {
                if first && level.starts_with('$') {
                    return false;
                }
            }
            (Some(p), Some(level)) => {
                if !p.is_text(level) {
                    return false;
                }
            }
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Topics of up to four levels over a small alphabet; a filter's set is judged by its members here. The empty topic
    /// is one of them: it cannot be published, but leaving it out would make `+/+/#` cover `/#`, and that is one special
    /// case more than rules need.
    fn topics() -> Vec<String> {
        let alphabet = ["a", "b", "", "$x", "z"];
        let mut all: Vec<String> = Vec::new();
        let mut longer: Vec<String> = alphabet.iter().map(|l| (*l).to_owned()).collect();
        for _ in 0..4 {
            all.extend(longer.iter().cloned());
            longer = longer
                .iter()
                .flat_map(|t| alphabet.iter().map(move |l| format!("{t}/{l}")))
                .collect();
        }
        all
    }

    /// Up to three levels, so that the topics above, one level longer and with a level (`z`) that no filter names,
    /// tell every two filters apart.
    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![
            3 => Just("a"), 2 => Just("b"), 1 => Just(""), 1 => Just("$x"), 3 => Just("+")
        ];
        (prop::collection::vec(level, 0..=3), any::<bool>()).prop_filter_map(
            "a filter has a character",
            |(mut levels, hash)| {
                if hash {
                    levels.truncate(2);
                    levels.push("#");
                }
                let text = levels.join("/");
                (!text.is_empty()).then_some(text)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn relations_agree_with_the_sets_of_topics(filter in filter(), asked in filter()) {
            let mut included = true;
            let mut common = false;
            for topic in topics() {
                let ours = nightjar_mqtt::topic::matches(&filter, &topic);
                let theirs = nightjar_mqtt::topic::matches(&asked, &topic);
                included &= ours || !theirs;
                common |= ours && theirs;
            }
            prop_assert_eq!(covers(&filter, &asked), included, "{} covers {}", filter, asked);
            prop_assert_eq!(overlaps(&filter, &asked), common, "{} overlaps {}", filter, asked);
            prop_assert_eq!(overlaps(&filter, &asked), overlaps(&asked, &filter));
        }
    }
}
