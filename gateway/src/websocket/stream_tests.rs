//! The stream over a socket that takes and gives in pieces; tungstenite reads what it wrote.

use std::collections::VecDeque;
use std::io::Cursor;
use std::task::Waker;

use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;

/// A socket in memory. Reads give one queued piece each; writes take `take` bytes at most, and only every other time.
struct Pieces {
    input: VecDeque<Vec<u8>>,
    ended: bool,
    output: Vec<u8>,
    take: usize,
    vectored: bool,
    full: bool,
    busy: bool,
    shut: bool,
}

impl Pieces {
    fn new(take: usize, vectored: bool) -> Self {
        Self {
            input: VecDeque::new(),
            ended: false,
            output: Vec::new(),
            take,
            vectored,
            full: false,
            busy: false,
            shut: false,
        }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.input.pop_front() else {
            return if self.ended {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        buf.put_slice(&piece);
        if !rest.is_empty() {
            self.input.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        assert!(!self.shut, "written after the end");
        self.busy = !self.busy;
        if self.full || (self.busy && self.take < usize::MAX) {
            return Poll::Pending;
        }
        let mut written = 0;
        for buf in bufs {
            let n = buf.len().min(self.take - written);
            self.output.extend_from_slice(&buf[..n]);
            written += n;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut bytes = vec![first, 0x80 | payload.len() as u8, 1, 2, 3, 4];
    bytes.extend(
        payload
            .iter()
            .zip([1u8, 2, 3, 4].iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Reads until there is no more for now: the payload, and how it ended.
fn read_all(stream: &mut WsStream<Pieces>, room: usize) -> (Vec<u8>, Option<io::Result<usize>>) {
    let mut data = Vec::new();
    let mut scratch = vec![0; room];
    for _ in 0..10_000 {
        match stream.poll_read(&mut cx(), &mut scratch) {
            Poll::Ready(Ok(0)) => return (data, Some(Ok(0))),
            Poll::Ready(Ok(n)) => data.extend_from_slice(&scratch[..n]),
            Poll::Ready(Err(error)) => return (data, Some(Err(error))),
            Poll::Pending => return (data, None),
        }
    }
    panic!("reading does not end");
}

/// Writes all of a stream as a connection does: what is not taken is offered again, with more behind it.
fn write_all(stream: &mut WsStream<Pieces>, data: &[u8], step: usize) {
    let (mut from, mut offered) = (0, 0);
    for _ in 0..100_000 {
        if from == data.len() {
            return;
        }
        offered = (offered + step).min(data.len());
        if let Poll::Ready(n) = stream.poll_write(&mut cx(), &data[from..offered]) {
            from += n.unwrap();
        }
    }
    panic!("writing does not end");
}

/// What a client library makes of the bytes: binary messages, and the control messages between them.
fn client_reads(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<Message>) {
    let mut client = WebSocket::from_raw_socket(Cursor::new(bytes.to_vec()), Role::Client, None);
    let (mut data, mut other) = (Vec::new(), Vec::new());
    loop {
        match client.read() {
            Ok(Message::Binary(bytes)) => data.push(bytes.to_vec()),
            Ok(message) => other.push(message),
            Err(Error::Protocol(_)) | Err(Error::ConnectionClosed) | Err(Error::Io(_)) => {
                return (data, other);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn stream(take: usize, vectored: bool) -> WsStream<Pieces> {
    WsStream::new(Pieces::new(take, vectored), Vec::new(), 1 << 20)
}

#[test]
fn one_write_is_one_frame_and_partial_writes_keep_the_stream_whole() {
    let data: Vec<u8> = (0..70_000u32).map(|n| (n * 7) as u8).collect();
    for vectored in [true, false] {
        let mut ws = stream(usize::MAX, vectored);
        for part in [&data[..5], &data[..200], &data[..]] {
            write_all(&mut ws, part, usize::MAX);
        }
        let (frames, _) = client_reads(&ws.io.output);
        assert_eq!(
            frames.iter().map(Vec::len).collect::<Vec<_>>(),
            [5, 200, 70_000]
        );
        assert_eq!(frames[2], data);
        for (take, step) in [(1, 100), (3, 7), (10, 1000), (1500, 4096), (4096, 70_000)] {
            let data = &data[..5000.max(take * 8)];
            let mut ws = stream(take, vectored);
            write_all(&mut ws, data, step);
            assert_eq!(
                client_reads(&ws.io.output).0.concat(),
                data,
                "take {take}, step {step}"
            );
        }
    }
}

#[test]
fn several_slices_are_one_frame_and_what_exceeds_the_number_is_left() {
    let mut ws = stream(usize::MAX, true);
    let parts: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; usize::from(n)]).collect();
    let all = parts.concat();
    let mut done = 0;
    while done < all.len() {
        let mut skip = done;
        let slices: Vec<IoSlice<'_>> = parts
            .iter()
            .filter_map(|part| {
                let cut = skip.min(part.len());
                skip -= cut;
                (cut < part.len()).then(|| IoSlice::new(&part[cut..]))
            })
            .collect();
        match ws.poll_write_vectored(&mut cx(), &slices) {
            Poll::Ready(Ok(n)) => done += n,
            other => panic!("{other:?}"),
        }
    }
    let (frames, _) = client_reads(&ws.io.output);
    assert_eq!(frames.concat(), all);
    assert!(
        frames.len() <= 40 / MAX_SLICES + 1,
        "{} frames",
        frames.len()
    );
}

#[test]
fn what_was_offered_while_the_socket_was_full_is_framed_with_what_came_later() {
    let mut ws = stream(usize::MAX, true);
    ws.io.full = true;
    assert!(ws.poll_write(&mut cx(), b"ab").is_pending());
    ws.io.full = false;
    assert!(matches!(
        ws.poll_write(&mut cx(), b"abcd"),
        Poll::Ready(Ok(4))
    ));
    assert_eq!(client_reads(&ws.io.output).0, [b"abcd"]);
}

#[test]
fn ping_is_answered_once_for_many_and_never_inside_a_frame() {
    let mut ws = stream(4, true);
    // A frame of ten bytes is open with four of its twelve bytes out.
    assert!(ws.poll_write(&mut cx(), b"0123456789").is_pending());
    assert!(matches!(
        ws.poll_write(&mut cx(), b"0123456789"),
        Poll::Ready(Ok(2))
    ));
    ws.io.input.push_back(
        [
            frame(0x89, b"one"),
            frame(0x89, b"two"),
            frame(0x82, b"data"),
        ]
        .concat(),
    );
    assert_eq!(read_all(&mut ws, 100).0, b"data");
    assert_eq!(ws.io.output.len(), 4);
    write_all(&mut ws, b"23456789", 8);
    for _ in 0..20 {
        let _ = ws.poll_flush(&mut cx());
    }
    let (data, control) = client_reads(&ws.io.output);
    assert_eq!(data, [b"0123456789"]);
    assert_eq!(control, [Message::Pong("two".into())]);
    // Nothing is kept behind it.
    assert_eq!((ws.control.capacity(), ws.ping.is_none()), (0, true));
}

#[test]
fn close_is_answered_with_its_code_and_ends_reading_and_writing() {
    let mut ws = stream(usize::MAX, true);
    ws.io.input.push_back(
        [
            frame(0x82, b"last"),
            frame(0x88, &[0x03, 0xE9]),
            frame(0x82, b"ignored"),
        ]
        .concat(),
    );
    let (data, end) = read_all(&mut ws, 100);
    assert_eq!(data, b"last");
    assert!(matches!(end, Some(Ok(0))));
    assert_eq!(ws.io.output, [0x88, 2, 0x03, 0xE9]);
    assert!(
        matches!(ws.poll_write(&mut cx(), b"x"), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    );
    assert!(matches!(ws.poll_shutdown(&mut cx()), Poll::Ready(Ok(()))));
    assert_eq!(ws.io.output.len(), 4, "one Close frame is enough");
}

#[test]
fn text_is_refused_with_1003_after_the_data_before_it() {
    let mut ws = stream(usize::MAX, true);
    ws.io
        .input
        .push_back([frame(0x82, b"data"), frame(0x81, b"text")].concat());
    let (data, end) = read_all(&mut ws, 100);
    assert_eq!(data, b"data");
    let error = end.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(
        error.get_ref().unwrap().downcast_ref(),
        Some(&Refusal::Text)
    );
    assert_eq!(ws.io.output, [0x88, 2, 0x03, 0xEB]);
}

#[test]
fn shutdown_sends_close_and_the_end_of_the_socket_is_the_end() {
    let mut ws = stream(usize::MAX, false);
    assert!(matches!(ws.poll_shutdown(&mut cx()), Poll::Ready(Ok(()))));
    assert_eq!(ws.io.output, [0x88, 2, 0x03, 0xE8]);
    let mut ws = stream(usize::MAX, false);
    ws.io.ended = true;
    assert!(matches!(read_all(&mut ws, 10), (data, Some(Ok(0))) if data.is_empty()));
}

#[test]
fn bytes_behind_the_request_come_first_and_small_buffers_lose_nothing() {
    let payload: Vec<u8> = (0..100).collect();
    let bytes = [
        frame(0x82, &payload),
        frame(0x02, &payload),
        frame(0x80, &payload),
    ]
    .concat();
    for (split, room) in [(0, 1), (1, 3), (50, 7), (bytes.len(), 64), (120, 4096)] {
        let mut ws = WsStream::new(
            Pieces::new(usize::MAX, true),
            bytes[..split].to_vec(),
            1 << 20,
        );
        ws.io
            .input
            .extend(bytes[split..].chunks(11).map(<[u8]>::to_vec));
        let (data, end) = read_all(&mut ws, room);
        assert_eq!(
            data,
            [&payload[..], &payload, &payload].concat(),
            "split {split}, room {room}"
        );
        assert!(end.is_none());
        assert_eq!(ws.prefix.capacity(), 0);
    }
}
