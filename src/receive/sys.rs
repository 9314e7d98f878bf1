//! The only unsafe code of this stage: `recvmmsg` and the two socket options that `socket2` lacks.
//!
//! Invariant of [`Batch`]: every pointer in `headers` points into `iovecs`, `names`, `controls` or `staging` of the same
//! batch; those are boxed slices that are never replaced, so moving the batch does not move what is pointed to.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::flow::Addr;

/// Datagrams taken with one call at most. Beyond 64 the cost of the call itself no longer shows.
pub const BATCH_DATAGRAMS: usize = 64;

/// Room for control messages, 8-byte words: one `SO_RXQ_OVFL` count takes 24 bytes.
const CONTROL_WORDS: usize = 8;

/// Buffers and headers of one `recvmmsg` call, built once.
pub struct Batch {
    staging: Box<[u8]>,
    datagram_bytes: usize,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[[u64; CONTROL_WORDS]]>,
    #[allow(dead_code, reason = "pointed to by headers")]
    iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: the pointers in `headers` and `iovecs` point only into this batch's own boxed slices (see the module's invariant),
// which move with it to another thread.
unsafe impl Send for Batch {}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its payload, cut when it was longer than the buffer.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub source: Addr,
    /// The sender's port.
    pub source_port: u16,
    /// Whether it was cut.
    pub truncated: bool,
}

impl Batch {
    /// Buffers for datagrams of up to `datagram_bytes` each.
    pub fn new(datagram_bytes: usize) -> Self {
        let n = BATCH_DATAGRAMS;
        let mut staging = vec![0u8; n * datagram_bytes].into_boxed_slice();
        // SAFETY: these are plain C structs for which all zeros is a valid value.
        let (mut names, mut headers): (Box<[libc::sockaddr_storage]>, Box<[libc::mmsghdr]>) =
            unsafe { (vec![std::mem::zeroed(); n].into_boxed_slice(), vec![std::mem::zeroed(); n].into_boxed_slice()) };
        let mut controls = vec![[0u64; CONTROL_WORDS]; n].into_boxed_slice();
        let mut iovecs: Box<[libc::iovec]> = staging
            .chunks_exact_mut(datagram_bytes)
            .map(|room| libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: datagram_bytes })
            .collect();
        for i in 0..n {
            let header = &mut headers[i].msg_hdr;
            header.msg_name = (&raw mut names[i]).cast();
            header.msg_iov = &raw mut iovecs[i];
            header.msg_iovlen = 1;
            header.msg_control = controls[i].as_mut_ptr().cast();
        }
        Self { staging, datagram_bytes, names, controls, iovecs, headers }
    }

    /// Receives up to [`BATCH_DATAGRAMS`] datagrams: waits for the first as long as the socket's receive timeout says, takes
    /// what else is there. Gives how many came; 0 when the time is over.
    ///
    /// # Errors
    /// The system's, other than a timeout or a signal.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for header in &mut self.headers {
            // The kernel overwrites both with what it used.
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>();
        }
        // SAFETY: `headers` holds BATCH_DATAGRAMS headers whose pointers and lengths describe this batch's own memory; no
        // reference to that memory is alive during the call, since it takes `&mut self`. A null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH_DATAGRAMS as libc::c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        if received >= 0 {
            return Ok((received as usize).min(BATCH_DATAGRAMS));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(0),
            _ => Err(error),
        }
    }

    /// The `i`-th datagram of the latest call; `i` is below what it gave.
    pub fn datagram(&self, i: usize) -> Datagram<'_> {
        let header = &self.headers[i];
        let length = (header.msg_len as usize).min(self.datagram_bytes);
        let start = i * self.datagram_bytes;
        let (source, source_port) = source_of(&self.names[i]);
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        Datagram { bytes: &self.staging[start..start + length], source, source_port, truncated }
    }

    /// The kernel's running count of drops at this socket, as noted with the `i`-th datagram; `None` while there were none.
    pub fn kernel_drops(&self, i: usize) -> Option<u32> {
        let control_bytes = self.headers[i].msg_hdr.msg_controllen;
        drops_of(&self.controls[i], control_bytes)
    }
}

/// Finds the `SO_RXQ_OVFL` message among the control messages, reading them as plain words.
fn drops_of(control: &[u64; CONTROL_WORDS], control_bytes: usize) -> Option<u32> {
    let mut bytes = [0u8; CONTROL_WORDS * 8];
    for (to, word) in bytes.chunks_exact_mut(8).zip(control) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    let mut rest = bytes.get(..control_bytes.min(bytes.len()))?;
    let header_bytes = size_of::<libc::cmsghdr>();
    while rest.len() >= header_bytes {
        let length = usize::from_ne_bytes(rest[..8].try_into().ok()?);
        let level = i32::from_ne_bytes(rest[8..12].try_into().ok()?);
        let kind = i32::from_ne_bytes(rest[12..16].try_into().ok()?);
        if length < header_bytes || length > rest.len() {
            return None;
        }
        if level == libc::SOL_SOCKET && kind == libc::SO_RXQ_OVFL {
            return rest.get(header_bytes..header_bytes + 4).and_then(|b| Some(u32::from_ne_bytes(b.try_into().ok()?)));
        }
        rest = rest.get(length.next_multiple_of(8)..)?;
    }
    None
}

fn source_of(name: &libc::sockaddr_storage) -> (Addr, u16) {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: sockaddr_storage is large enough and aligned for every address type, and the family says which it is.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            (Addr::v4(u32::from_be(v4.sin_addr.s_addr)), u16::from_be(v4.sin_port))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            (Addr(u128::from_be_bytes(v6.sin6_addr.s6_addr)), u16::from_be(v6.sin6_port))
        }
        _ => (Addr::default(), 0),
    }
}

/// Asks the kernel for its count of drops with each datagram.
///
/// # Errors
/// The system's.
pub fn enable_drop_count(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_int(socket, libc::SO_RXQ_OVFL, 1)
}

/// Sets the receive buffer beyond `net.core.rmem_max`, which needs CAP_NET_ADMIN.
///
/// # Errors
/// The system's; without the capability `PermissionDenied`.
pub fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    // The kernel doubles the number in 32 bits.
    set_int(socket, libc::SO_RCVBUFFORCE, i32::try_from(bytes).unwrap_or(i32::MAX / 2).min(i32::MAX / 2))
}

fn set_int(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
