//! The kernel's own view of our sockets: `/proc/net/udp` and `/proc/net/udp6`.

use std::os::fd::RawFd;

/// The inode by which the tables name a socket; `None` where `/proc` is not mounted.
pub fn inode_of(socket: RawFd) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/self/fd/{socket}")).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Datagrams dropped at the socket with this inode since it was opened; `None` when it is in neither table.
pub fn drops_of(inode: u64) -> Option<u64> {
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .find_map(|table| drops_in(&table, inode))
}

/// Columns, by blanks: sl, local, remote, state, queues, timer, retransmits, uid, timeout, inode (9), ref, pointer, drops (12).
fn drops_in(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let ours = columns.nth(9)?.parse() == Ok(inode);
        ours.then(|| columns.nth(2)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_stand_in_the_last_column_of_the_inodes_line() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             4642: 0100007F:C861 0100007F:752C 01 00000000:00000000 00:00000000 00000000     0        0 53832 2 00000000c7a3f79e 0\n\
            16109: 0100007F:752C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 53816 2 000000008653fde9 4711\n";
        assert_eq!(drops_in(table, 53816), Some(4711));
        assert_eq!(drops_in(table, 53832), Some(0));
        assert_eq!(drops_in(table, 1), None);
    }

    #[test]
    fn an_open_socket_is_found_by_its_inode() {
        use std::os::fd::AsRawFd;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(inode_of(socket.as_raw_fd()).and_then(drops_of), Some(0));
    }
}
