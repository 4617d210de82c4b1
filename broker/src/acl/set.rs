//! A compiled list of rules and its verdicts.

use super::filter;
use super::index::{Index, Lists};
use super::parse::{self, SyntaxErrors};
use super::pattern::{Subject, TopicPattern};
use super::rule::{Permission, Rule};
use crate::access::{Action, ClientInfo, Verdict};
use nightjar_mqtt::QoS;

/// More rules than this are refused: positions are 32 bits wide, and each rule may hold many levels.
pub const MAX_RULES: usize = 1 << 20;

/// Rules in order, compiled for fast verdicts. The first rule that matches decides.
///
/// - An allow rule matches a SUBSCRIBE if it covers the whole asked filter: `t/+` does not allow `t/#`.
/// - A deny rule matches a SUBSCRIBE if it covers it. If it only overlaps, later rules decide, and a subscription they
///   allow is [`Verdict::AllowChecked`]: each delivery is judged by [`RuleSet::may_deliver`].
/// - A rule whose placeholder has no value, or one that holds `+`, `#`, `/` or U+0000, does not match by that topic; nor
///   does a topic that begins with a placeholder whose value begins with `$`.
///
/// ```
/// use nightjar_broker::acl::RuleSet;
/// let rules = RuleSet::parse("{allow, {user, \"ops\"}, subscribe, [\"$SYS/#\"]}.\n{deny, all}.\n", "etc/acl.conf")?;
/// assert_eq!(rules.len(), 2);
/// let error = RuleSet::parse("{allow, everyone}.", "etc/acl.conf").unwrap_err();
/// assert!(error.to_string().starts_with("etc/acl.conf:1:9: expected all, {user, _}"));
/// # Ok::<(), nightjar_broker::acl::SyntaxErrors>(())
/// ```
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    index: Index,
}

/// A verdict and the rules behind it.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'r> {
    /// Never [`Verdict::NoMatch`] with a deciding rule.
    pub verdict: Verdict,
    /// The rule that decided, if one did.
    pub rule: Option<&'r Rule>,
    /// The first deny rule that overlaps the asked filter without covering it, if one stands before the deciding rule.
    pub overlap: Option<&'r Rule>,
}

impl RuleSet {
    /// Reads and compiles the text of an `acl.conf`; `file` names it in errors.
    ///
    /// # Errors
    /// [`SyntaxErrors`] with up to 20 mistakes, each with line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, SyntaxErrors> {
        let rules = parse::rules(text, file)?;
        if rules.len() > MAX_RULES {
            return Err(SyntaxErrors(vec![parse::SyntaxError {
                file: file.to_owned(),
                line: rules[MAX_RULES].line,
                column: 1,
                expected: format!("at most {MAX_RULES} rules"),
                got: rules.len().to_string(),
            }]));
        }
        Ok(Self::from_rules(rules))
    }

    /// Compiles rules made by other means (a token's claim, rows of a table). Those behind [`MAX_RULES`] are left out.
    pub fn from_rules(mut rules: Vec<Rule>) -> Self {
        rules.truncate(MAX_RULES);
        Self {
            index: Index::new(&rules),
            rules,
        }
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True if it holds no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Judges an action of a client.
    pub fn judge(&self, client: &ClientInfo, action: Action<'_>) -> Verdict {
        let subject = Subject::new(client);
        let decided = self.deciding(&subject, action);
        let denies = |rule: &Rule| rule.permission == Permission::Deny;
        if decided.is_some_and(|id| denies(self.rule(id))) {
            return Verdict::Deny;
        }
        let overlap = match action {
            Action::Subscribe { filter, .. } if filter::is_wild(filter) => self
                .index
                .denied_in_part(&subject, filter, decided.unwrap_or(u32::MAX), |id| {
                    let rule = self.rule(id);
                    denies(rule) && speaks_of_part(rule, &subject, action)
                }),
            _ => false,
        };
        match (decided.is_some(), overlap) {
            (true, false) => Verdict::Allow,
            (true, true) => Verdict::AllowChecked,
            (false, false) => Verdict::NoMatch,
            (false, true) => Verdict::NoMatchChecked,
        }
    }

    /// As [`Self::judge`], and says by which rules. Slower: it looks for the first rule that overlaps, not for any.
    pub fn decide(&self, client: &ClientInfo, action: Action<'_>) -> Decision<'_> {
        let subject = Subject::new(client);
        let verdict = self.judge(client, action);
        let decided = self.deciding(&subject, action);
        let checked = matches!(verdict, Verdict::AllowChecked | Verdict::NoMatchChecked);
        let mut rules = self.rules.iter();
        Decision {
            verdict,
            rule: decided.map(|id| self.rule(id)),
            // One stands before the deciding rule, so the first of all does too.
            overlap: rules.find(|rule| {
                checked
                    && rule.permission == Permission::Deny
                    && speaks_of_part(rule, &subject, action)
            }),
        }
    }

    /// The first rule that speaks of an action on all of its topics.
    fn deciding(&self, subject: &Subject<'_>, action: Action<'_>) -> Option<u32> {
        let mut lists = Lists::new();
        self.index.candidates(subject, action.topic(), &mut lists);
        self.first(&mut lists, |rule| {
            speaks_of(rule, subject, action) && covers(rule, subject, action.topic())
        })
    }

    /// After [`Verdict::AllowChecked`] or [`Verdict::NoMatchChecked`] for a subscription of `filter` with `qos`: may a
    /// message of this topic go to the client?
    ///
    /// The rules up to the one that decided on the subscription are tried on the topic, and the first that matches
    /// decides. [`Verdict::NoMatch`] if none does: the subscription was decided elsewhere.
    pub fn may_deliver(&self, client: &ClientInfo, filter: &str, qos: QoS, topic: &str) -> Verdict {
        let subject = Subject::new(client);
        let subscription = Action::Subscribe { filter, qos };
        let mut lists = Lists::new();
        self.index.candidates(&subject, topic, &mut lists);
        // What covers the filter covers the topic, but for `{eq, filter}`.
        self.index.literals(&subject, filter, &mut lists);
        let decided = self.first(&mut lists, |rule| {
            speaks_of(rule, &subject, subscription)
                && (covers(rule, &subject, topic) || covers(rule, &subject, filter))
        });
        match decided.map(|id| self.rule(id).permission) {
            Some(Permission::Allow) => Verdict::Allow,
            Some(Permission::Deny) => Verdict::Deny,
            None => Verdict::NoMatch,
        }
    }

    /// The first of the candidates that `matches` accepts, in the order of the rules.
    fn first(&self, lists: &mut Lists<'_>, matches: impl Fn(&Rule) -> bool) -> Option<u32> {
        if lists.len() > 32 {
            // Merging searches all lists at each step; so many are sorted at once instead.
            let mut ids = lists.concat();
            ids.sort_unstable();
            ids.dedup();
            return ids.into_iter().find(|id| matches(self.rule(*id)));
        }
        loop {
            let next = lists
                .iter()
                .filter_map(|list| list.first())
                .min()
                .copied()?;
            for list in lists.iter_mut() {
                if list.first() == Some(&next) {
                    *list = &list[1..];
                }
            }
            if matches(self.rule(next)) {
                return Some(next);
            }
        }
    }

    fn rule(&self, id: u32) -> &Rule {
        &self.rules[usize::try_from(id).expect("u32 fits usize")]
    }
}

/// True if a rule speaks of this client and action; its topics are not looked at.
fn speaks_of(rule: &Rule, subject: &Subject<'_>, action: Action<'_>) -> bool {
    rule.action.matches(action) && rule.who.matches(subject)
}

fn covers(rule: &Rule, subject: &Subject<'_>, asked: &str) -> bool {
    let covers = |topics: &Vec<TopicPattern>| topics.iter().any(|t| t.covers(asked, subject));
    rule.topics.as_ref().is_none_or(covers)
}

/// True if a rule speaks of some topic of a subscription.
fn speaks_of_part(rule: &Rule, subject: &Subject<'_>, action: Action<'_>) -> bool {
    let overlaps =
        |topics: &Vec<TopicPattern>| topics.iter().any(|t| t.overlaps(action.topic(), subject));
    speaks_of(rule, subject, action) && rule.topics.as_ref().is_some_and(overlaps)
}
