//! UDP in between silos and coordinator, keeping every datagram: a packet capture without privileges.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Largest datagram.
const DATAGRAM: usize = 65536;

/// What went over the wire, both ways.
#[derive(Debug, Default)]
pub struct Capture {
    /// Datagrams.
    pub datagrams: usize,
    /// Their payloads, one after the other, as they came.
    pub bytes: Vec<u8>,
}

/// A running relay. Stops when dropped.
pub struct Relay {
    address: SocketAddr,
    capture: Arc<Mutex<Capture>>,
    stop: Arc<AtomicBool>,
}

impl Relay {
    /// Relays from a free port of this machine to `to`; each sender gets a socket of its own towards it.
    pub fn start(to: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let (capture, stop) = (Arc::new(Mutex::new(Capture::default())), Arc::new(AtomicBool::new(false)));
        let (kept, stopped) = (capture.clone(), stop.clone());
        std::thread::spawn(move || forward(&front, to, &kept, &stopped));
        Relay { address, capture, stop }
    }

    /// Where silos dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks at what was captured so far.
    pub fn with_capture<T>(&self, look: impl FnOnce(&Capture) -> T) -> T {
        look(&self.capture.lock().unwrap())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn keep(capture: &Mutex<Capture>, datagram: &[u8]) {
    let mut capture = capture.lock().unwrap();
    capture.datagrams += 1;
    capture.bytes.extend_from_slice(datagram);
}

/// Front to back; starts a thread for the way back of each sender.
fn forward(front: &UdpSocket, to: SocketAddr, capture: &Arc<Mutex<Capture>>, stop: &Arc<AtomicBool>) {
    let mut backs: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    each(front, stop, |datagram, from| {
        keep(capture, datagram);
        let back = backs.entry(from).or_insert_with(|| {
            let back = UdpSocket::bind("127.0.0.1:0").unwrap();
            back.connect(to).unwrap();
            let (replies, front) = (back.try_clone().unwrap(), front.try_clone().unwrap());
            let (capture, stop) = (capture.clone(), stop.clone());
            std::thread::spawn(move || {
                each(&replies, &stop, |datagram, _| {
                    keep(&capture, datagram);
                    // Datagrams may get lost: QUIC sends them again.
                    drop(front.send_to(datagram, from));
                });
            });
            back
        });
        drop(back.send(datagram));
    });
}

fn each(socket: &UdpSocket, stop: &AtomicBool, mut take: impl FnMut(&[u8], SocketAddr)) {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = vec![0; DATAGRAM];
    while !stop.load(Ordering::Relaxed) {
        // An error is a timeout, or an ICMP answer to an earlier datagram.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            take(&buffer[..length], from);
        }
    }
}
