//! A thread that does jobs, from outside: what it is sent, and its end.

use std::convert::Infallible;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::WorkerError;

pub(super) struct Thread<J> {
    /// Gone before `jobs` is, so that what is still queued then is for nobody.
    open: Arc<()>,
    /// Unbounded for the same reason as the wire: leases bound it.
    jobs: Sender<J>,
    /// Resolves when the thread has let go of all that it had.
    ended: oneshot::Receiver<Infallible>,
    handle: JoinHandle<()>,
}

/// The jobs of a session, in the order in which they came, until it is over.
pub(super) struct Inbox<J> {
    open: Weak<()>,
    jobs: Receiver<J>,
}

impl<J> Inbox<J> {
    /// A job that has come already.
    pub(super) fn waiting(&mut self) -> Option<J> {
        self.jobs.try_recv().ok().filter(|_| self.is_open())
    }

    /// Nobody waits for the answers of a session that is over, and its end may wait for this thread.
    fn is_open(&self) -> bool {
        self.open.strong_count() > 0
    }
}

impl<J> Iterator for Inbox<J> {
    type Item = J;

    fn next(&mut self) -> Option<J> {
        let job = self.jobs.recv().ok()?;
        self.is_open().then_some(job)
    }
}

impl<J: Send + 'static> Thread<J> {
    /// Starts it. It ends when this value is dropped, after the job that it is at.
    pub(super) fn start(name: &str, work: impl FnOnce(Inbox<J>) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let (at_work, ended) = oneshot::channel();
        let open = Arc::new(());
        let inbox = Inbox { open: Arc::downgrade(&open), jobs: inbox };
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // the first to come is the last to go, after a panic too
            let _at_work = at_work;
            work(inbox);
        })?;
        Ok(Self { open, jobs, ended, handle })
    }

    /// Queues a job.
    ///
    /// # Errors
    /// The thread is gone: it panicked.
    pub(super) fn send(&self, job: J) -> Result<(), WorkerError> {
        self.jobs.send(job).map_err(|_| WorkerError::Compute)
    }

    /// Queues no more, and waits until the thread is through with the job that it is at, and gone.
    ///
    /// # Errors
    /// It panicked; it is not gone after `patience`, and may never be.
    pub(super) async fn end(self, patience: Duration) -> Result<(), WorkerError> {
        let Self { open, jobs, ended, handle } = self;
        drop(open);
        drop(jobs);
        // not joined before: a thread that hangs would keep whoever joins it, and a runtime waits for its blocking tasks
        let gone = tokio::time::timeout(patience, ended).await;
        let Err(_) = gone.map_err(|_| WorkerError::Hangs { waited: patience })?;
        handle.join().map_err(|_| WorkerError::Compute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Only a hang gets there.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn what_has_come_is_there_without_a_wait_until_the_session_is_over() {
        let (jobs, inbox) = mpsc::channel();
        let open = Arc::new(());
        let mut inbox = Inbox { open: Arc::downgrade(&open), jobs: inbox };
        assert_eq!(inbox.waiting(), None);
        for job in [1, 2] {
            jobs.send(job).expect("somebody listens");
        }
        assert_eq!(inbox.waiting(), Some(1));
        drop(open);
        assert_eq!(inbox.waiting(), None, "the other one is for nobody");
    }

    /// A thread whose jobs take as long as the test wants, what it has done, and how to let it go on.
    fn slow() -> (Thread<u32>, Arc<Mutex<Vec<u32>>>, Sender<()>) {
        let (go_on, wait) = mpsc::channel();
        let done = Arc::new(Mutex::new(Vec::new()));
        let does = Arc::clone(&done);
        let work = move |inbox: Inbox<u32>| {
            for job in inbox {
                does.lock().expect("no panic").push(job);
                let _ = wait.recv();
                does.lock().expect("no panic").push(job);
            }
        };
        (Thread::start("slow", work).expect("a thread"), done, go_on)
    }

    #[tokio::test]
    async fn a_thread_that_is_busy_when_its_session_ends_is_waited_for() {
        let (thread, done, go_on) = slow();
        (1..=3).for_each(|job| thread.send(job).expect("it is there"));
        while done.lock().expect("no panic").is_empty() {
            tokio::task::yield_now().await;
        }
        let mut end = std::pin::pin!(thread.end(PATIENCE));
        let early = tokio::time::timeout(Duration::from_millis(20), &mut end).await;
        assert!(early.is_err(), "it is at its first job");
        go_on.send(()).expect("it waits");
        end.await.expect("it ends");
        // those that were queued are for nobody
        assert_eq!(*done.lock().expect("no panic"), [1, 1]);
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_an_error_that_says_what_to_do() {
        let (thread, done, go_on) = slow();
        thread.send(1).expect("it is there");
        while done.lock().expect("no panic").is_empty() {
            tokio::task::yield_now().await;
        }
        let error = thread.end(Duration::from_millis(1)).await.expect_err("it hangs");
        assert!(!error.is_passing(), "whoever joins again would compute beside it");
        assert!(error.to_string().contains("nvidia-smi"), "{error}");
        drop(go_on);
    }

    #[tokio::test]
    async fn one_that_panicked_is_gone_and_says_so() {
        let thread = Thread::<u32>::start("panics", |_| panic!("on purpose")).expect("a thread");
        assert!(matches!(thread.end(PATIENCE).await, Err(WorkerError::Compute)));
    }
}
