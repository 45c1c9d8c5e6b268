//! Who wants to know what changed: events of commits, as they happen, for a mount's kernel caches.
//!
//! An event is sent when its commit is applied, before the one who committed is answered. Doors other than the mount
//! wait for its delivery, up to a second, without holding a thread or a lock; the mount's own commits never wait.
//! Events say where to look again; what is there now the rows say. Of one key, two events may come in either order
//! when their commits were answered at the same time.
//! Nobody subscribed costs nothing. A subscriber that does not keep up gets [`Event::Lagged`] in place of what was
//! dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::object::Door;
use crate::{BucketName, Cx, Store};

/// Events kept for a subscriber that is behind: some seconds of the busiest store.
pub const EVENTS_MAX: usize = 65_536;
/// How long a commit's answer waits for the subscribers.
const DELIVERY_MAX: Duration = Duration::from_secs(1);

/// What one key became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The object's key; a directory's marker ends with `/`.
    pub key: String,
    /// Inode number of the version that was current.
    pub old_ino: Option<u64>,
    /// Inode number of the version that is current now.
    pub new_ino: Option<u64>,
    /// The bytes are others (or came, or went); `false`: only attributes.
    pub has_new_content: bool,
}

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// A commit changed these keys of a bucket.
    Changed {
        /// Which bucket.
        bucket: BucketName,
        /// Which keys, in order. None: the bucket itself came or went.
        keys: Arc<[KeyChange]>,
        /// Through which door.
        door: Door,
        /// The id of the request, so that a mount knows its own.
        request_id: Arc<str>,
        /// Drop it when the kernel has been told: somebody may be waiting.
        delivered: Delivered,
    },
    /// Events were dropped: nothing cached can be relied on.
    Lagged,
}

/// Tells who waits, when dropped.
#[derive(Debug)]
pub struct Delivered {
    #[expect(dead_code, reason = "held, not used: that it is dropped is the message")]
    waiting: mpsc::Sender<()>,
}

/// A subscription; ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    events: mpsc::Receiver<Event>,
    has_lagged: Arc<AtomicBool>,
}

/// Who has subscribed.
#[derive(Debug)]
pub(crate) struct Hub {
    subscribers: Mutex<Vec<Subscriber>>,
    /// How long a commit's answer waits.
    patience: Duration,
    /// Deliveries that nobody waited for to the end.
    late: AtomicU64,
}

#[derive(Debug)]
struct Subscriber {
    events: mpsc::Sender<Event>,
    has_lagged: Arc<AtomicBool>,
}

/// The keys of one commit, gathered by the planner.
pub(crate) type Touched = BTreeMap<String, KeyChange>;

/// Ends when all subscribers have delivered.
#[derive(Debug)]
pub(crate) struct Delivery(mpsc::Receiver<()>);

impl Store {
    /// Tells that a bucket came or went.
    pub(crate) async fn tell_bucket(&self, cx: &Cx, bucket: &BucketName) {
        let hub = &self.inner.hub;
        if let Some(delivery) = hub.tell_all(bucket, Touched::new(), cx.door, &cx.request_id)
            && cx.door != Door::Mount
        {
            hub.wait(delivery).await;
        }
    }

    /// Events of all commits from now on.
    pub fn subscribe(&self) -> Subscription {
        self.inner.hub.subscribe()
    }

    /// Answers of commits that went out before every subscriber had delivered their event.
    pub fn late_deliveries(&self) -> u64 {
        self.inner.hub.late.load(Ordering::Relaxed)
    }
}

impl Subscription {
    /// The next event; `None`: the store is gone.
    pub async fn next(&mut self) -> Option<Event> {
        if self.has_lagged.swap(false, Ordering::AcqRel) {
            // what is still queued says less than that
            while self.events.try_recv().is_ok() {}
            return Some(Event::Lagged);
        }
        self.events.recv().await
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self { subscribers: Mutex::default(), patience: DELIVERY_MAX, late: AtomicU64::new(0) }
    }
}

impl Hub {
    fn subscribe(&self) -> Subscription {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let has_lagged = Arc::new(AtomicBool::new(false));
        self.lock().push(Subscriber { events: sender, has_lagged: Arc::clone(&has_lagged) });
        Subscription { events, has_lagged }
    }

    /// Tells everybody what became of keys; `None`: there is nobody, or nothing to tell.
    pub(crate) fn tell(
        &self,
        bucket: &BucketName,
        touched: Touched,
        door: Door,
        request_id: &str,
    ) -> Option<Delivery> {
        if touched.is_empty() { None } else { self.tell_all(bucket, touched, door, request_id) }
    }

    fn tell_all(
        &self,
        bucket: &BucketName,
        touched: Touched,
        door: Door,
        request_id: &str,
    ) -> Option<Delivery> {
        let mut subscribers = self.lock();
        subscribers.retain(|subscriber| !subscriber.events.is_closed());
        if subscribers.is_empty() {
            return None;
        }
        let keys: Arc<[KeyChange]> = touched.into_values().collect();
        let request_id: Arc<str> = request_id.into();
        let (waiting, delivery) = mpsc::channel(1);
        for subscriber in subscribers.iter() {
            let event = Event::Changed {
                bucket: bucket.clone(),
                keys: Arc::clone(&keys),
                door,
                request_id: Arc::clone(&request_id),
                delivered: Delivered { waiting: waiting.clone() },
            };
            if let Err(mpsc::error::TrySendError::Full(_)) = subscriber.events.try_send(event) {
                subscriber.has_lagged.store(true, Ordering::Release);
            }
        }
        Some(Delivery(delivery))
    }

    /// Waits until it is delivered, but not for ever.
    pub(crate) async fn wait(&self, delivery: Delivery) {
        let Delivery(mut waiting) = delivery;
        // nothing is ever sent: it ends when the last sender goes
        if tokio::time::timeout(self.patience, waiting.recv()).await.is_err() {
            self.late.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("a change was answered before the mount had told the kernel");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Subscriber>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Conditions;
    use crate::delete::DeleteObject;
    use crate::rename::Replace;
    use crate::sample::{Opened, at};

    /// The keys of the next event.
    async fn keys(subscription: &mut Subscription) -> Vec<(String, bool, bool, bool)> {
        let Some(Event::Changed { keys, .. }) = subscription.next().await else { panic!("no event") };
        keys.iter()
            .map(|k| (k.key.clone(), k.old_ino.is_some(), k.new_ino.is_some(), k.has_new_content))
            .collect()
    }

    #[tokio::test]
    async fn every_change_is_told() {
        let opened = Opened::new().await;
        let (store, cx) = (&opened.store, &opened.cx);
        let mut subscription = store.subscribe();
        let told = async {
            let mut told = Vec::new();
            for _ in 0..5 {
                told.extend(keys(&mut subscription).await);
            }
            told
        };
        let changes = async {
            opened.put(&at("bucket", "a"), b"1".to_vec()).await;
            opened.put(&at("bucket", "a"), b"2".to_vec()).await;
            let tags = vec![("k".into(), "v".into())];
            store.set_tags(cx, at("bucket", "a"), None, tags).await.unwrap();
            store.rename(cx, at("bucket", "a"), "b".parse().unwrap(), Replace::Yes).await.unwrap();
            let delete =
                DeleteObject { at: at("bucket", "b"), version: None, conditions: Conditions::default() };
            store.delete(cx, delete).await.unwrap();
        };
        let (told, ()) = tokio::join!(told, changes);
        let change = |key: &str, old, new, content| (key.to_owned(), old, new, content);
        let expected = [
            change("a", false, true, true),
            change("a", true, true, true),
            change("a", true, true, false),
            change("a", true, false, true),
            change("b", false, true, true),
            change("b", true, false, true),
        ];
        assert_eq!(told, expected);
        assert_eq!(store.late_deliveries(), 0);
    }

    #[tokio::test]
    async fn an_answer_waits_for_delivery() {
        let opened = Opened::new().await;
        let mut subscription = opened.store.subscribe();
        let object = at("bucket", "a");
        let mut put = std::pin::pin!(opened.put(&object, b"1".to_vec()));
        let event = tokio::select! {
            _ = &mut put => panic!("answered before it was delivered"),
            event = subscription.next() => event,
        };
        for _ in 0..100 {
            tokio::select! {
                biased;
                _ = &mut put => panic!("answered before it was delivered"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(event);
        put.await;
        assert_eq!(opened.store.late_deliveries(), 0);
        drop(subscription);
        opened.put(&object, b"2".to_vec()).await;
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let hub = Hub { patience: Duration::from_millis(1), ..Hub::default() };
        let _subscription = hub.subscribe();
        let change = KeyChange { key: "k".into(), old_ino: None, new_ino: Some(1), has_new_content: true };
        let touched: Touched = [("k".to_owned(), change)].into();
        let delivery = hub.tell(&"bucket".parse().unwrap(), touched, Door::S3, "r").unwrap();
        hub.wait(delivery).await;
        assert_eq!(hub.late.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_lags_is_told() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe();
        let bucket: BucketName = "bucket".parse().unwrap();
        let change = KeyChange { key: "k".into(), old_ino: None, new_ino: Some(1), has_new_content: true };
        let touched: Touched = [("k".to_owned(), change)].into();
        for _ in 0..=EVENTS_MAX {
            hub.tell(&bucket, touched.clone(), Door::S3, "r").unwrap();
        }
        assert!(matches!(subscription.next().await, Some(Event::Lagged)));
        hub.tell(&bucket, touched, Door::S3, "r").unwrap();
        assert!(matches!(subscription.next().await, Some(Event::Changed { .. })));
    }
}
