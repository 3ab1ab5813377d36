//! Network namespaces and interfaces.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// Brings up the loopback interface of the calling thread's network namespace (netdevice(7),
/// SIOCSIFFLAGS).
pub fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is made of integers and byte arrays, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call; name and flags are set.
    check(i64::from(unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    }))
    .map(drop)
}

/// Makes a socket of numbers that somebody else gave (socket(2)), close-on-exec.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: three integers.
    let number = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    check(i64::from(number))?;
    // SAFETY: the call succeeded, so this is a new descriptor that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Moves the calling thread, and no other, into a new network namespace (unshare(2)).
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: an integer; a network namespace is a thread's own and no memory, descriptor or
    // file system state hangs on it.
    check(i64::from(unsafe { libc::unshare(libc::CLONE_NEWNET) })).map(drop)
}

/// Length of the header before each packet of a [`tun`] descriptor: `struct virtio_net_hdr`.
pub const PACKET_HEADER: usize = 10;

/// Makes `device`, a fresh descriptor of `/dev/net/tun`, the other end of a new network interface
/// (Documentation/networking/tuntap.rst). The interface belongs to the namespace in which the
/// device was opened and goes away with the descriptor.
///
/// Packets are whole IP packets behind a header of [`PACKET_HEADER`] bytes. The kernel may leave
/// checksums of packets for the descriptor to be filled in, and keeps packets whole.
///
/// # Panics
/// If `name` is longer than an interface's may be.
pub fn tun(device: impl AsFd, name: &str) -> io::Result<()> {
    assert!(name.len() < libc::IFNAMSIZ, "interface names are short");
    let device = device.as_fd().as_raw_fd();
    // SAFETY: ifreq is made of integers and byte arrays, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call; name and flags are
    // set.
    check(i64::from(unsafe {
        libc::ioctl(device, libc::TUNSETIFF as _, &raw mut request)
    }))?;
    let offload = libc::c_ulong::from(libc::TUN_F_CSUM);
    // SAFETY: TUNSETOFFLOAD takes an integer.
    check(i64::from(unsafe {
        libc::ioctl(device, libc::TUNSETOFFLOAD as _, offload)
    }))
    .map(drop)
}
