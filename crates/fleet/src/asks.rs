//! One question for all who wait for its answer.

use std::future::Future;

use base::Shutdown;
use futures_util::stream::{FuturesUnordered, StreamExt};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Who waits for the next question to be sent; further ones wait to wait.
const WAITING_MAX: usize = 4096;
/// How many questions are under way at a time. With a second one nobody who comes late waits for two whole answers.
const UNDER_WAY_MAX: usize = 2;

/// The question was not answered, because this process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the process is stopping")]
pub struct NotAsked;

/// The handle of those who ask. Cheap to clone.
#[derive(Debug)]
pub struct Asks<T> {
    waiting: mpsc::Sender<oneshot::Sender<T>>,
}

impl<T> Clone for Asks<T> {
    fn clone(&self) -> Asks<T> {
        Asks { waiting: self.waiting.clone() }
    }
}

/// A handle for asking `question`, and the future that asks: at most two questions at a time, each for all who came
/// before it was sent. The future ends with `shutdown`, or when the last handle is gone.
pub fn asks<T, F>(
    question: impl Fn() -> F + Send + 'static,
    shutdown: Shutdown,
) -> (Asks<T>, impl Future<Output = ()> + Send)
where
    T: Clone + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (waiting, waiters) = mpsc::channel(WAITING_MAX);
    (Asks { waiting }, ask_all(question, waiters, shutdown))
}

impl<T> Asks<T> {
    /// The answer to a question that is sent after this was called: what was true before the call is known to whoever
    /// answers. Cancel-safe.
    pub async fn ask(&self) -> Result<T, NotAsked> {
        let (answer, answered) = oneshot::channel();
        self.waiting.send(answer).await.map_err(|_| NotAsked)?;
        answered.await.map_err(|_| NotAsked)
    }
}

async fn ask_all<T, F>(
    question: impl Fn() -> F,
    mut waiters: mpsc::Receiver<oneshot::Sender<T>>,
    shutdown: Shutdown,
) where
    T: Clone,
    F: Future<Output = T>,
{
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            // Answers before questions: they make room, and whoever comes meanwhile shares the next question.
            biased;
            () = shutdown.begun() => return,
            Some(()) = under_way.next() => {}
            first = waiters.recv(), if under_way.len() < UNDER_WAY_MAX => {
                let Some(first) = first else { return };
                // Taken before the question is sent: it serves these, and nobody who comes later.
                let mut served = vec![first];
                while served.len() < WAITING_MAX && let Ok(waiter) = waiters.try_recv() {
                    served.push(waiter);
                }
                let question = question();
                under_way.push(async move {
                    let answer = question.await;
                    for waiter in served {
                        // Who has gone away needs no answer.
                        let _ = waiter.send(answer.clone());
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use base::{Random, SeededRandom};

    use super::*;

    /// The order in which things happen.
    #[derive(Default)]
    struct Order(AtomicU64);

    impl Order {
        fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::SeqCst)
        }
    }

    async fn yield_some(random: &SeededRandom, most: u64) {
        for _ in 0..random.next_u64() % most {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_answer_serves_only_those_who_came_before_its_question_was_sent() {
        for seed in 0..50 {
            let random = Arc::new(SeededRandom::new(seed));
            let order = Arc::new(Order::default());
            let questions = Arc::new(AtomicU64::new(0));
            let question = {
                let (random, order, questions) = (random.clone(), order.clone(), questions.clone());
                move || {
                    let (random, order, questions) = (random.clone(), order.clone(), questions.clone());
                    async move {
                        let sent = order.next();
                        assert!(questions.fetch_add(1, Ordering::SeqCst) < 2, "two at a time");
                        yield_some(&random, 20).await;
                        questions.fetch_sub(1, Ordering::SeqCst);
                        sent
                    }
                }
            };
            let (asks, asking) = asks(question, Shutdown::new());
            let clients = futures_util::future::join_all((0..100).map(|_| {
                let (asks, random, order) = (asks.clone(), random.clone(), order.clone());
                async move {
                    yield_some(&random, 200).await;
                    let came = order.next();
                    let sent = asks.ask().await.unwrap();
                    assert!(came < sent, "asked at {came}, answered by a question of {sent}");
                    sent
                }
            }));
            drop(asks);
            let (sent, ()) = tokio::join!(clients, asking);
            let distinct: std::collections::HashSet<_> = sent.iter().collect();
            assert!(distinct.len() < 60, "{} questions for 100", distinct.len());
        }
    }

    #[tokio::test]
    async fn who_asks_while_the_process_stops_is_told() {
        let shutdown = Shutdown::new();
        let (asks, asking) = asks(std::future::pending::<()>, shutdown.clone());
        let stop = async { shutdown.begin() };
        let (answer, (), ()) = tokio::join!(asks.ask(), asking, stop);
        assert_eq!(answer, Err(NotAsked));
        assert_eq!(asks.ask().await, Err(NotAsked));
    }
}
