//! Sending many datagrams with one system call.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Datagrams handed over in one call: enough to spread the call's cost, small beside a receive buffer of 208 KiB (90
/// datagrams).
pub const BATCH_DATAGRAMS_MAX: usize = 32;

/// Sends datagrams through a connected socket, at most [`BATCH_DATAGRAMS_MAX`] of them. Gives how many went out: at least one
/// unless `datagrams` is empty.
///
/// # Errors
/// What the kernel says about the first one; nothing went out then.
pub fn send_many<'a>(socket: &UdpSocket, datagrams: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
    const EMPTY_VEC: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut vectors = [EMPTY_VEC; BATCH_DATAGRAMS_MAX];
    let mut count = 0;
    for (vector, datagram) in vectors.iter_mut().zip(datagrams) {
        *vector = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: mmsghdr is a plain C struct of integers and pointers for which all zeros is a valid value (no name, no control).
    let mut messages: [libc::mmsghdr; BATCH_DATAGRAMS_MAX] = unsafe { std::mem::zeroed() };
    for (message, vector) in messages.iter_mut().zip(&mut vectors) {
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: the first `count` messages point to `count` iovecs on this stack, whose buffers are borrowed for 'a and only
    // read; the descriptor is open for as long as `socket` is borrowed.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as libc::c_uint, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives_in_order() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let datagrams: Vec<Vec<u8>> = (0..40u8).map(|i| vec![i; usize::from(i) + 1]).collect();
        let sent = send_many(&sender, datagrams.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(sent, BATCH_DATAGRAMS_MAX);
        let mut buffer = [0; 100];
        for datagram in &datagrams[..sent] {
            let length = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], &datagram[..]);
        }
        assert_eq!(send_many(&sender, std::iter::empty()).unwrap(), 0);
    }
}
