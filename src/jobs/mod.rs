//! Work in the background, at intervals. The runner owns the loop: a job that fails or panics is counted, logged and run
//! again at its next time; a job never overlaps itself; all of them end when the process stops.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::telemetry::{Counter, Metrics};

/// When a job runs.
#[derive(Debug, Clone, Copy)]
pub struct Every {
    /// From the end of one run to the beginning of the next, on average.
    pub interval: Duration,
    /// How far a pause may differ from the interval, as a fraction of it, 0 to 1: replicas that started together drift apart.
    pub jitter: f64,
    /// Whether the first run is at once, or after a pause.
    pub at_once: bool,
}

impl Every {
    /// Every `interval`, a tenth more or less, first after a pause.
    pub fn about(interval: Duration) -> Self {
        Self { interval, jitter: 0.1, at_once: false }
    }

    fn pause(self) -> Duration {
        let jitter = self.jitter.clamp(0.0, 1.0);
        // Never zero: a job in a circle would starve what it works for.
        self.interval.mul_f64(1.0 + rand::rng().random_range(-jitter..=jitter)).max(Duration::from_millis(1))
    }
}

/// Between runs of a job that always finds something due.
const SHORTEST: Duration = Duration::from_secs(1);

/// Runs jobs. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    tasks: TaskTracker,
    shutdown: CancellationToken,
    metrics: Arc<Metrics>,
}

impl Jobs {
    /// A runner whose jobs belong to `tasks` and end with `shutdown`.
    pub fn new(tasks: TaskTracker, shutdown: CancellationToken, metrics: Arc<Metrics>) -> Self {
        Self { tasks, shutdown, metrics }
    }

    /// Runs `job` at intervals until the process stops. A run that is under way then is dropped at its next await: a job
    /// keeps what must stay whole within one transaction.
    pub fn run<F, Fut>(&self, name: &'static str, every: Every, mut job: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send,
    {
        self.repeat(name, every, move || {
            let run = job();
            async move { run.await.map(|()| every.pause()) }
        });
    }

    /// The same of a job that says when it has something to do again: in `most` at the latest, and never within a second. First in
    /// `most`.
    pub fn run_when_due<F, Fut>(&self, name: &'static str, most: Duration, mut job: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<Duration>> + Send,
    {
        let every = Every::about(most);
        self.repeat(name, every, move || {
            let run = job();
            async move { run.await.map(|wait| wait.max(SHORTEST).min(every.pause())) }
        });
    }

    /// Runs `job`, and again after the pause that it says; after one of `every` where it came to nothing.
    fn repeat<F, Fut>(&self, name: &'static str, every: Every, mut job: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<Duration>> + Send,
    {
        let Self { tasks, shutdown, metrics } = self.clone();
        tasks.spawn(async move {
            let rounds = async {
                if !every.at_once {
                    tokio::time::sleep(every.pause()).await;
                }
                loop {
                    // The job is built inside, so that a panic while building is caught as well.
                    let run = AssertUnwindSafe(async { job().await }).catch_unwind().await;
                    let mut pause = None;
                    let result = match run {
                        Ok(Ok(next)) => {
                            pause = Some(next);
                            "success"
                        }
                        Ok(Err(error)) => {
                            tracing::warn!(job = name, error = format!("{error:#}"), "job failed");
                            "failure"
                        }
                        Err(_) => {
                            tracing::error!(job = name, "job panicked; this is a bug of the gateway");
                            "panic"
                        }
                    };
                    metrics.job_runs.on([name, result], Counter::inc);
                    tokio::time::sleep(pause.unwrap_or_else(|| every.pause())).await;
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = rounds => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_job_survives_its_failures_and_ends_with_the_process() {
        let (tasks, shutdown, metrics) = (TaskTracker::new(), CancellationToken::new(), Arc::new(Metrics::new(10)));
        let jobs = Jobs::new(tasks.clone(), shutdown.clone(), Arc::clone(&metrics));
        let (say, mut heard) = mpsc::channel(1);
        let mut round = 0;
        let every = Every { interval: Duration::from_millis(1), jitter: 1.0, at_once: true };
        jobs.run("sweep", every, move || {
            round += 1;
            let (round, say) = (round, say.clone());
            async move {
                match round {
                    1 => anyhow::bail!("no database"),
                    2 => panic!("on purpose"),
                    _ => Ok(say.send(round).await?),
                }
            }
        });
        assert_eq!(heard.recv().await, Some(3), "the third run comes after a failure and a panic");
        assert_eq!(metrics.job_runs.with(["sweep", "failure"]).get(), 1);
        assert_eq!(metrics.job_runs.with(["sweep", "panic"]).get(), 1);
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        while heard.recv().await.is_some() {}
    }

    #[test]
    fn pauses_stay_within_the_jitter() {
        let every = Every::about(Duration::from_secs(100));
        for _ in 0..1000 {
            assert!((90..=110).contains(&every.pause().as_secs()));
        }
    }
}
