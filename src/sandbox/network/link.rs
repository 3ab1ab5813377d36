//! The stack's end of an interface: packets out, packets in, and smoltcp's view of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant;
use smoltcp::wire::IpVersion;

use crate::sys::net::PACKET_HEADER;

use super::namespace::MTU;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is still to be computed, which the kernel leaves
/// out for a packet that it keeps.
const NEEDS_CHECKSUM: u8 = 1;
/// Where the checksum stands in a TCP header.
const TCP_CHECKSUM: u16 = 16;
/// Bytes that surely hold all headers of a packet: the kernel keeps so many in one piece, and
/// the rest in pages.
const HEADERS: usize = 128;

/// A tun descriptor and room for one packet in each direction.
#[derive(Debug)]
pub(super) struct Link {
    tun: Rc<OwnedFd>,
    out: Vec<u8>,
}

impl Link {
    pub(super) fn new(tun: OwnedFd) -> Self {
        let (tun, out) = (Rc::new(tun), vec![0; MTU]);
        Self { tun, out }
    }

    /// The descriptor, for those who pass packets on to it.
    pub(super) fn tun(&self) -> &Rc<OwnedFd> {
        &self.tun
    }

    /// Reads one packet into `room`; `None` when there is no more for now.
    pub(super) fn read<'r>(&self, room: &'r mut [u8]) -> Result<Option<&'r [u8]>, Errno> {
        match rustix::io::read(&*self.tun, &mut *room) {
            Ok(length) => Ok(Some(room.get(PACKET_HEADER..length).unwrap_or_default())),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Sends what `fill` writes into `length` bytes.
    pub(super) fn send(&mut self, length: usize, fill: impl FnOnce(&mut [u8])) {
        fill(&mut self.out[..length]);
        write(&self.tun, &self.out[..length], [0; PACKET_HEADER]);
    }

    /// Lets smoltcp work on it, with at most one packet to take in.
    pub(super) fn with<'l>(&'l mut self, incoming: Option<&'l [u8]>) -> OnePacket<'l> {
        let link = self;
        OnePacket { link, incoming }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}

/// Passes a packet of `length` bytes that [`Link::read`] left in `room` on to another interface,
/// as the kernel gave it: a checksum that is still to be computed is still not needed.
pub(super) fn pass_on(room: &[u8], length: usize, to: &OwnedFd) {
    // One that the kernel has no room for is lost, as on any network.
    let _ = rustix::io::write(to, &room[..PACKET_HEADER + length]);
}

/// A packet that the kernel has no room for is lost, as on any network.
fn write(tun: &OwnedFd, packet: &[u8], mut header: [u8; PACKET_HEADER]) {
    let in_one_piece = packet.len().min(HEADERS) as u16;
    header[2..4].copy_from_slice(&in_one_piece.to_ne_bytes());
    let parts = [
        std::io::IoSlice::new(&header),
        std::io::IoSlice::new(packet),
    ];
    let _ = rustix::io::writev(tun, &parts);
}

/// Bytes before the TCP header of a packet that smoltcp made, which has no options.
fn ip_header(packet: &[u8]) -> u16 {
    match IpVersion::of_packet(packet) {
        Ok(IpVersion::Ipv6) => 40,
        _ => 20,
    }
}

/// A [`Link`] as a device with one packet waiting or none.
#[derive(Debug)]
pub(super) struct OnePacket<'l> {
    link: &'l mut Link,
    incoming: Option<&'l [u8]>,
}

/// What smoltcp is told about every link: the kernel is on the other end, so TCP checksums would
/// protect nothing.
pub(super) fn capabilities() -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::default();
    checksum.tcp = Checksum::None;
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = MTU;
    capabilities.checksum = checksum;
    capabilities
}

impl Device for OnePacket<'_> {
    type RxToken<'a>
        = Incoming<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing(self.link)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(self.link))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}

/// The packet that waits.
#[derive(Debug)]
pub(super) struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

/// Room for a packet to send.
#[derive(Debug)]
pub(super) struct Outgoing<'a>(&'a mut Link);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let packet = &mut self.0.out[..length];
        let result = fill(packet);
        let mut header = [0; PACKET_HEADER];
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&ip_header(packet).to_ne_bytes());
        header[8..10].copy_from_slice(&TCP_CHECKSUM.to_ne_bytes());
        write(&self.0.tun, packet, header);
        result
    }
}
