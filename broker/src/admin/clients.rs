//! Clients and their subscriptions.

use std::collections::BinaryHeap;
use std::sync::Arc;

use nightjar_mqtt::TopicFilter;

use super::Page;
use crate::broker::Broker;
use crate::handle::SessionHandle;
use crate::subs::SubTable;
use crate::subscription::Subscription;

/// One subscription of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// Whose.
    pub client_id: Arc<str>,
    /// Is the session durable?
    pub durable: bool,
    /// Topic filter, `$share/...` in full.
    pub filter: TopicFilter,
    /// Options and identifier.
    pub sub: Subscription,
}

/// A session in the order of client identifiers.
struct ById(Arc<SessionHandle>);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.client_id() == other.0.client_id()
    }
}

impl Eq for ById {}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.client_id().cmp(other.0.client_id())
    }
}

impl Broker {
    /// The first `limit` sessions behind a client identifier that `keep` wants, in the order of identifiers. `keep` is
    /// asked only of those that may be on the page.
    pub fn page_clients(
        &self,
        after: Option<&str>,
        limit: usize,
        mut keep: impl FnMut(&Arc<SessionHandle>) -> bool,
    ) -> Page<Arc<SessionHandle>> {
        let mut heap: BinaryHeap<ById> = BinaryHeap::with_capacity(limit.min(1000) + 2);
        for handle in self.clients() {
            let id: &str = handle.client_id();
            if after.is_some_and(|after| id <= after)
                || heap.len() > limit && heap.peek().is_some_and(|last| id >= &**last.0.client_id())
                || !keep(&handle)
            {
                continue;
            }
            heap.push(ById(handle));
            if heap.len() > limit + 1 {
                heap.pop();
            }
        }
        let rows = heap.into_sorted_vec().into_iter().map(|row| row.0);
        Page::cut(rows.collect(), limit)
    }

    /// How many sessions `keep` wants.
    pub fn count_clients(&self, mut keep: impl FnMut(&Arc<SessionHandle>) -> bool) -> usize {
        self.clients().iter().filter(|handle| keep(handle)).count()
    }

    /// The first `limit` subscriptions behind (client identifier, filter) that `keep` wants, in the order of both.
    /// `only` looks at one client, `exact` at one topic filter.
    pub fn page_subscriptions(
        &self,
        only: Option<&str>,
        exact: Option<&str>,
        after: Option<(&str, &str)>,
        limit: usize,
        keep: impl Fn(&Arc<SessionHandle>, &TopicFilter, Subscription) -> bool,
    ) -> Page<SubscriptionRow> {
        let keep = |handle: &Arc<SessionHandle>, filter: &TopicFilter, sub: Subscription| {
            exact.is_none_or(|exact| filter.as_str() == exact) && keep(handle, filter, sub)
        };
        // One look-up instead of a walk through the table, for most clients.
        let may = |subs: &SubTable| match exact {
            Some(exact) => subs.get(exact).is_some(),
            None => !subs.is_empty(),
        };
        let wanted = |handle: &Arc<SessionHandle>, rest: Option<&str>| {
            let mut rows: Vec<(TopicFilter, Subscription)> = handle.with_subs(|subs| {
                if !may(subs) {
                    return Vec::new();
                }
                subs.iter()
                    .filter(|(filter, sub)| {
                        rest.is_none_or(|rest| filter.as_str() > rest)
                            && keep(handle, filter, **sub)
                    })
                    .map(|(filter, sub)| (filter.clone(), *sub))
                    .collect()
            });
            rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            rows
        };
        let row = |handle: &Arc<SessionHandle>, (filter, sub): (TopicFilter, Subscription)| {
            SubscriptionRow {
                client_id: handle.client_id().clone(),
                durable: handle.is_durable(),
                filter,
                sub,
            }
        };
        // The client the last page ended in may have more.
        let mut rows: Vec<SubscriptionRow> = Vec::new();
        let first = only.or(after.map(|after| after.0));
        if let Some(handle) = first.and_then(|first| self.client(first)) {
            let rest = after
                .filter(|after| after.0 == &**handle.client_id())
                .map(|after| after.1);
            let own = wanted(&handle, rest);
            rows.extend(own.into_iter().take(limit + 1).map(|own| row(&handle, own)));
        }
        if only.is_none() && rows.len() <= limit {
            // Each of these clients has one row at least.
            let left = limit - rows.len();
            let some = |handle: &Arc<SessionHandle>| {
                handle.with_subs(|subs| {
                    may(subs) && subs.iter().any(|(filter, sub)| keep(handle, filter, *sub))
                })
            };
            let clients = self.page_clients(after.map(|after| after.0), left, some);
            let more = clients.more;
            for handle in clients.rows {
                let own = wanted(&handle, None);
                rows.extend(own.into_iter().map(|own| row(&handle, own)));
                if rows.len() > limit {
                    break;
                }
            }
            let mut page = Page::cut(rows, limit);
            page.more |= more;
            return page;
        }
        Page::cut(rows, limit)
    }
}
