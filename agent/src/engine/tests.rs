use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::task::Poll;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};

use super::*;

/// Runs a future on a thread of its own, to its end.
fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let thread = start("test".into()).unwrap();
    let (answer, answered) = one_answer();
    thread.spawn(async move { answer(future.await) });
    let answer = answered.recv().unwrap();
    thread.stop();
    answer
}

#[expect(clippy::disallowed_methods, reason = "the test's own thread may block")]
fn one_answer<T: Send + 'static>() -> (impl FnOnce(T) + Send, Receiver<T>) {
    let (send, receive) = channel();
    (move |value| drop(send.send(value)), receive)
}

/// Two ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::new(Arc::new(socket)).unwrap();
    let near = TcpStream::connect(stream_socket(address).unwrap(), address);
    let near = near.await.unwrap();
    listener.readable().await.unwrap();
    (near, listener.accept().unwrap().stream)
}

#[test]
fn bytes_and_ends_go_both_ways() {
    run(async {
        let (mut near, mut far) = pair().await;
        near.write_all(b"ping").await.unwrap();
        let mut four = [0; 4];
        far.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"ping");
        // It waits in epoll now, and the end wakes it.
        let reading = spawn_answering(async move {
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).await.unwrap();
            (far, rest)
        });
        near.write_all(b"and more").await.unwrap();
        near.shutdown().await.unwrap();
        let (mut far, rest) = reading.await.unwrap();
        assert_eq!(rest, b"and more");
        far.write_all(b"pong").await.unwrap();
        drop(far);
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"pong");
    });
}

fn spawn_answering<T: 'static>(future: impl Future<Output = T> + 'static) -> oneshot::Receiver<T> {
    let (answer, answered) = oneshot::channel();
    let task = spawn(async move { drop(answer.send(future.await)) });
    task.unwrap();
    answered
}

#[test]
fn a_writer_waits_for_room_and_goes_on() {
    const MUCH: usize = 8 << 20;
    run(async {
        let (mut near, mut far) = pair().await;
        let writing = spawn_answering(async move {
            near.write_all(&vec![7; MUCH]).await.unwrap();
        });
        let mut count = 0;
        let mut buffer = vec![0; 100_000];
        loop {
            match far.read(&mut buffer).await.unwrap() {
                0 => break,
                read => count += read,
            }
        }
        writing.await.unwrap();
        assert_eq!(count, MUCH);
    });
}

#[test]
fn what_is_looked_at_is_still_there() {
    run(async {
        let (mut near, mut far) = pair().await;
        near.write_all(b"ab").await.unwrap();
        let mut two = [0; 2];
        assert_eq!(far.peek(&mut two).await.unwrap(), 2);
        assert_eq!(far.peek(&mut two).await.unwrap(), 2);
        far.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"ab");
    });
}

#[test]
fn a_reset_is_an_error_and_a_refused_connect_too() {
    run(async {
        let (near, mut far) = pair().await;
        let reading = spawn_answering(async move { far.read_u8().await });
        near.reset_on_close();
        drop(near);
        let error = reading.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let refused = TcpStream::connect(stream_socket(address).unwrap(), address).await;
        let kind = refused.map(|_| ()).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn sleeps_end_in_their_order_and_never_early() {
    run(async {
        let begin = Instant::now();
        let order = Arc::new(Mutex::new(Vec::new()));
        let after = |millis: u64| {
            let order = Arc::clone(&order);
            spawn_answering(async move {
                let until = begin + Duration::from_millis(millis);
                sleep_until(until).await;
                assert!(Instant::now() >= until);
                order.lock().unwrap().push(millis);
            })
        };
        let all = [after(40), after(1), after(15), after(0)];
        for one in all {
            one.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 15, 40]);
    });
}

#[test]
fn a_sleep_moves_both_ways() {
    run(async {
        let begin = now();
        let mut sleep = sleep_until(begin + Duration::from_millis(5));
        let poll = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut sleep).poll(cx).is_ready()));
        assert!(!poll.await);
        sleep.reset(begin + Duration::from_millis(30));
        (&mut sleep).await;
        assert!(begin.elapsed() >= Duration::from_millis(30));

        let mut sleep = sleep_until(now() + Duration::from_secs(3600));
        let poll = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut sleep).poll(cx).is_ready()));
        assert!(!poll.await);
        sleep.reset(now() + Duration::from_millis(5));
        sleep.await;
    });
}

#[test]
fn a_timeout_is_the_futures_answer_or_the_end_of_patience() {
    run(async {
        let never = std::future::pending::<()>();
        assert!(
            timeout_at(now() + Duration::from_millis(2), never)
                .await
                .is_err()
        );
        assert_eq!(
            timeout_at(now() + Duration::from_secs(60), async { 7 })
                .await
                .ok(),
            Some(7)
        );
    });
}

#[test]
fn other_threads_wake_and_abort() {
    struct Told(Option<std::sync::mpsc::Sender<&'static str>>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.take().map(|told| told.send("dropped"));
        }
    }

    let thread = start("test".into()).unwrap();
    let bell = Arc::new(Notify::new());
    let rung = Arc::clone(&bell);
    let (answer, answered) = one_answer();
    thread.spawn(async move {
        rung.notified().await;
        answer(());
    });
    bell.notify_one();
    answered.recv().unwrap();

    #[expect(clippy::disallowed_methods, reason = "the test's own thread may block")]
    let (told, tells) = channel();
    let (answer, task) = one_answer();
    thread.spawn(async move {
        let told = Told(Some(told));
        let task = spawn(async move {
            let _told = told;
            std::future::pending::<()>().await;
        });
        answer(task.unwrap());
    });
    task.recv().unwrap().abort();
    assert_eq!(tells.recv().unwrap(), "dropped");
    thread.stop();
}

#[test]
fn a_task_that_panics_takes_no_other_with_it() {
    run(async {
        let bad = spawn_answering(async { panic!("as this test wants it") });
        let _: Result<(), _> = bad.await;
        assert_eq!(spawn_answering(async { 1 }).await, Ok(1));
    });
}

#[test]
fn a_thread_that_stops_drops_what_runs_there() {
    let thread = start("test".into()).unwrap();
    let end = thread.spawn(std::future::pending());
    thread.stop();
    assert!(end.blocking_recv().is_err());
    // And what comes later is dropped at once.
    assert!(
        thread
            .spawn(std::future::pending())
            .blocking_recv()
            .is_err()
    );
}

#[test]
fn a_finished_socket_costs_no_event_of_its_successor() {
    run(async {
        for _ in 0..100 {
            let (mut near, mut far) = pair().await;
            near.write_all(b"x").await.unwrap();
            assert_eq!(far.read_u8().await.unwrap(), b'x');
            SockRef::from(&near)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    });
}

#[test]
fn however_much_is_costly_little_of_it_begins_in_a_turn() {
    const PIECES: usize = 40;
    let (turns, between) = run(async {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let pieces: Vec<_> = (0..PIECES)
            .map(|_| {
                let begun = Arc::clone(&begun);
                spawn_answering(async move {
                    costly().await;
                    begun.lock().unwrap().push(now());
                })
            })
            .collect();
        // Whatever else there is has its turn every time.
        let live = Arc::new(AtomicUsize::new(0));
        let polls = Arc::clone(&live);
        let other = spawn(std::future::poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        for piece in pieces {
            piece.await.unwrap();
        }
        other.unwrap().abort();
        let begun = std::mem::take(&mut *begun.lock().unwrap());
        (begun, live.load(Ordering::Relaxed))
    });
    assert_eq!(turns.len(), PIECES);
    // A turn has one time.
    let most = turns.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert_eq!(most, Some(COSTLY as usize));
    assert!(between >= PIECES / COSTLY as usize, "{between} turns");
}
