//! Ports for programs that cannot pick one themselves.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below those that Linux gives to whoever asks for any, or connects (`ip_local_port_range`, from 32,768): nobody
/// else gets one before the program has bound it, or while it is restarted.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
/// Where the next process begins, whose tests may run at the same time.
const APART: u32 = 61;

/// A port of the loopback that is free for TCP and UDP, and that no other call of this process is given.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = process::id().wrapping_mul(APART);
    let free = (0..COUNT).find_map(|_| {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into());
        let port = FIRST + u16::try_from(number % u32::from(COUNT)).expect("below COUNT");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        (TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()).then_some(address)
    });
    free.expect("one of 12,000 ports of the loopback is free")
}
