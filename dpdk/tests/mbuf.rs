//! The mbuf as a `PacketBuf`, and its edges.
#![allow(clippy::unwrap_used)]

use arrayvec::ArrayVec;
use dpdk::{L4Checksum, Mbuf, Mempool, MempoolConfig, MempoolError, free_burst};
use wire::{HeapBuf, PacketBuf, RxChecksum};

const HEADROOM: usize = 128;
const DATA_ROOM: usize = 2048;

/// Frames of the given lengths, chained; each byte tells its place in the whole frame.
fn chain(pool: &Mempool, lens: &[usize]) -> Mbuf {
    let mut place = 0..;
    let mut segment = |len: usize| {
        let bytes: Vec<u8> = place.by_ref().take(len).map(|i: usize| (i % 251) as u8).collect();
        pool.frame(&bytes).unwrap()
    };
    let mut head = segment(lens[0]);
    for len in &lens[1..] {
        head.chain(segment(*len)).unwrap();
    }
    head
}

fn counted(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// What the engine relies on, whichever buffer is below.
fn keeps_the_contract(mut buf: impl PacketBuf) {
    assert_eq!(buf.bytes(), b"0123456789");
    assert_eq!((buf.frame_len(), buf.is_contiguous()), (10, true));
    assert!(buf.linearise(), "a contiguous frame already is what is asked for");

    assert!(buf.set_len(4));
    assert_eq!((buf.bytes(), buf.frame_len()), (&b"0123"[..], 4));
    assert!(buf.set_len(6), "grows into the tail room");
    buf.bytes_mut()[4..].copy_from_slice(b"xy");
    assert_eq!(buf.bytes(), b"0123xy");
    assert!(buf.set_len(0));
    assert_eq!((buf.bytes(), buf.frame_len()), (&b""[..], 0));

    assert!(buf.set_len(DATA_ROOM));
    buf.bytes_mut().fill(0xa5);
    assert!(!buf.set_len(DATA_ROOM + 1), "there is no more room");
    assert_eq!(buf.frame_len(), DATA_ROOM, "unchanged");
    assert!(buf.bytes().iter().all(|byte| *byte == 0xa5));

    assert_eq!(buf.rss_hash(), None);
    assert_eq!((buf.ip_checksum(), buf.l4_checksum()), (RxChecksum::Unknown, RxChecksum::Unknown));
}

#[dpdk::test]
fn mbuf_and_heap_buffer_keep_one_contract(pool: &Mempool) {
    keeps_the_contract(pool.frame(b"0123456789").unwrap());
    keeps_the_contract(HeapBuf::from_bytes(b"0123456789"));
}

#[dpdk::test]
fn a_handle_is_one_pointer_wide(_pool: &Mempool) {
    assert_eq!(size_of::<Mbuf>(), 8);
    assert_eq!(size_of::<Option<Mbuf>>(), 8);
    fn is_send<T: Send>() {}
    is_send::<Mbuf>();
}

#[dpdk::test]
fn a_new_mbuf_is_empty_with_the_usual_room(pool: &Mempool) {
    let mbuf = pool.alloc().unwrap();
    assert_eq!((mbuf.frame_len(), mbuf.segment_count()), (0, 1));
    assert_eq!((mbuf.headroom(), mbuf.tailroom()), (HEADROOM, DATA_ROOM));
    assert!(mbuf.bytes().is_empty());
}

#[dpdk::test]
fn headers_are_put_on_and_taken_off_at_the_front(pool: &Mempool) {
    let mut mbuf = pool.frame(b"payload").unwrap();
    assert!(mbuf.prepend(4));
    mbuf.bytes_mut()[..4].copy_from_slice(b"head");
    assert_eq!((mbuf.bytes(), mbuf.frame_len()), (&b"headpayload"[..], 11));
    assert_eq!((mbuf.headroom(), mbuf.tailroom()), (HEADROOM - 4, DATA_ROOM - 7));

    assert!(mbuf.trim_front(6));
    assert_eq!((mbuf.bytes(), mbuf.frame_len()), (&b"yload"[..], 5));
    assert!(!mbuf.trim_front(6), "it has five");
    assert_eq!(mbuf.bytes(), b"yload");

    assert!(mbuf.prepend(HEADROOM + 2));
    assert_eq!(mbuf.headroom(), 0);
    assert!(!mbuf.prepend(1));
    assert_eq!(mbuf.frame_len(), HEADROOM + 7);
}

#[dpdk::test]
fn a_chain_shows_its_first_segment_and_counts_all(pool: &Mempool) {
    let mut mbuf = chain(pool, &[100, 50, 1, 200]);
    assert_eq!((mbuf.segment_count(), mbuf.frame_len()), (4, 351));
    assert!(!mbuf.is_contiguous());
    assert_eq!(mbuf.bytes(), counted(100));
    assert_eq!(mbuf.segments().map(<[u8]>::len).collect::<Vec<_>>(), [100, 50, 1, 200]);
    assert_eq!(mbuf.to_vec(), counted(351));
    assert!(!mbuf.set_len(10), "only contiguous frames can be cut");
    assert_eq!(mbuf.frame_len(), 351);
    assert_eq!(pool.in_use(), 4);

    assert!(mbuf.linearise());
    assert_eq!((mbuf.segment_count(), pool.in_use()), (1, 1));
    assert_eq!(mbuf.bytes(), counted(351));
    assert!(mbuf.set_len(10));
}

#[dpdk::test]
fn a_chain_that_exactly_fills_the_first_segment_can_be_linearised(pool: &Mempool) {
    let mut mbuf = chain(pool, &[14, 1000, DATA_ROOM - 1014]);
    assert!(mbuf.linearise());
    assert_eq!((mbuf.bytes(), mbuf.tailroom()), (&counted(DATA_ROOM)[..], 0));
}

#[dpdk::test]
fn a_chain_that_is_too_long_stays_as_it_is(pool: &Mempool) {
    let mut mbuf = chain(pool, &[14, 2000, 35]);
    assert!(!mbuf.linearise(), "2,049 bytes do not fit 2,048");
    assert_eq!((mbuf.segment_count(), mbuf.frame_len()), (3, 2049));
    assert_eq!(mbuf.to_vec(), counted(2049));
    assert_eq!(pool.in_use(), 3);
}

#[dpdk::test]
fn a_chain_is_freed_whole_alone_and_in_a_burst(pool: &Mempool) {
    drop(chain(pool, &[10, 10, 10]));
    assert_eq!(pool.in_use(), 0);
    let mut burst: ArrayVec<Mbuf, 8> = (0..4).map(|_| chain(pool, &[10, 20])).collect();
    assert_eq!(pool.in_use(), 8);
    free_burst(&mut burst);
    assert_eq!((burst.len(), pool.in_use()), (0, 0));
    free_burst(&mut burst);
}

#[dpdk::test]
fn what_the_port_said_is_read_from_the_flags(pool: &Mempool) {
    let mut mbuf = pool.frame(b"x").unwrap();
    for hash in [Some(0), Some(0xdead_beef), None] {
        for ip in [RxChecksum::Unknown, RxChecksum::Good, RxChecksum::Bad] {
            for l4 in [RxChecksum::Unknown, RxChecksum::Good, RxChecksum::Bad] {
                mbuf.set_rx_metadata(hash, ip, l4);
                assert_eq!((mbuf.rss_hash(), mbuf.ip_checksum(), mbuf.l4_checksum()), (hash, ip, l4));
            }
        }
    }
    mbuf.set_rx_metadata(Some(7), RxChecksum::Good, RxChecksum::Bad);
    assert!(mbuf.request_checksums(14, 20, true, Some(L4Checksum::Tcp)));
    assert!(mbuf.request_checksums(14, 40, false, Some(L4Checksum::Udp)));
    assert!(!mbuf.request_checksums(128, 20, true, None), "seven bits");
    assert!(!mbuf.request_checksums(14, 512, true, None), "nine bits");
    assert_eq!(mbuf.rss_hash(), Some(7), "requests for transmission leave it alone");
    assert_eq!((mbuf.ip_checksum(), mbuf.l4_checksum()), (RxChecksum::Good, RxChecksum::Bad));
}

#[dpdk::test]
fn a_reused_mbuf_remembers_nothing(pool: &Mempool) {
    let mut mbuf = chain(pool, &[100, 100]);
    mbuf.set_rx_metadata(Some(1), RxChecksum::Bad, RxChecksum::Bad);
    assert!(mbuf.trim_front(50));
    drop(mbuf);
    let all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), 63);
    for mbuf in &all {
        assert_eq!((mbuf.frame_len(), mbuf.segment_count(), mbuf.headroom()), (0, 1, HEADROOM));
        assert_eq!((mbuf.rss_hash(), mbuf.ip_checksum()), (None, RxChecksum::Unknown));
    }
}

#[dpdk::test(capacity = 31)]
fn an_empty_pool_gives_nothing_and_recovers(pool: &Mempool) {
    let mut all = ArrayVec::<Mbuf, 64>::new();
    assert!(!pool.alloc_bulk(&mut all, 32), "all or none");
    assert_eq!((all.len(), pool.available()), (0, 31));
    assert!(pool.alloc_bulk(&mut all, 31));
    assert_eq!((pool.available(), pool.in_use()), (0, 31));
    assert!(pool.alloc().is_none());
    assert!(pool.frame(b"x").is_none());
    assert!(!pool.alloc_bulk(&mut all, 1));
    assert!(pool.alloc_bulk(&mut all, 0));

    all.pop();
    assert_eq!(pool.available(), 1);
    let mut full = ArrayVec::<Mbuf, 1>::new();
    assert!(pool.alloc_bulk(&mut full, 1));
    assert!(!pool.alloc_bulk(&mut full, 1), "no room in the vector");
}

#[dpdk::test]
fn a_frame_longer_than_the_data_room_is_refused_without_a_leak(pool: &Mempool) {
    assert!(pool.frame(&[0; DATA_ROOM]).is_some());
    assert!(pool.frame(&[0; DATA_ROOM + 1]).is_none());
    assert!(pool.frame(&[0; 70_000]).is_none());
    assert_eq!(pool.in_use(), 0);
}

#[dpdk::test]
fn pools_that_cannot_be_say_why(pool: &Mempool) {
    let create = |capacity, cache, data_room| {
        Mempool::create(pool.eal(), &MempoolConfig { capacity, cache, data_room }).unwrap_err()
    };
    let error = create(0, 0, 2048);
    assert!(matches!(error, MempoolError::Empty), "{error}");
    let error = create(10, 7, 2048);
    assert!(matches!(error, MempoolError::CacheTooLarge { cache: 7, capacity: 10, max: 6 }), "{error}");
    let error = create(10_000, 513, 2048);
    assert!(matches!(error, MempoolError::CacheTooLarge { max: 512, .. }), "{error}");
    let error = create(10, 0, 65_500);
    assert!(matches!(error, MempoolError::DataRoomTooLarge(65_500)), "{error}");
    let error = create(1_000_000, 0, 2048);
    assert!(matches!(error, MempoolError::NoMemory { capacity: 1_000_000, .. }), "{error}");
    assert!(error.to_string().contains("about 2327 MB"), "{error}");
}

#[dpdk::test]
fn pools_are_told_apart(pool: &Mempool) {
    let config = MempoolConfig { capacity: 63, cache: 0, data_room: 9216 };
    let other = Mempool::create(pool.eal(), &config).unwrap();
    assert_ne!(*pool, other);
    let jumbo = other.frame(&[7; 9216]).unwrap();
    assert!(jumbo.is_contiguous());
    assert_eq!((pool.in_use(), other.in_use()), (0, 1));
    assert_eq!((other.capacity(), other.data_room()), (63, 9216));
}
