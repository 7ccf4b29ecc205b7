//! Histories, noted, written, read back.

use super::*;

const START: u64 = 17_934_912_000;

fn on_disk(history: &mut History, disk: &mut Sheets) {
    disk.extend(history.take());
    prune(disk);
}

#[test]
fn what_was_noted_is_read_back_over_writes_and_restarts() {
    let mut disk = Sheets::new();
    let mut history = History::after(Sheets::new());
    let mut expected = Vec::new();
    for step in 0..1_000_u64 {
        let event = match step % 5 {
            0 => Noted::Contact,
            1 => Noted::Floor(if step % 2 == 0 { Urgency::Low } else { Urgency::High }),
            2 => Noted::Push(Urgency::VeryLow),
            3 => Noted::Push(Urgency::High),
            _ => Noted::Push(Urgency::Normal),
        };
        history.note(START + step * 450, event);
        expected.push((step * 450, event));
        if step % 70 == 0 {
            on_disk(&mut history, &mut disk);
            assert_eq!((history.unwritten(), history.take()), (Sheets::new(), Sheets::new()));
        }
        if step % 210 == 0 {
            history = History::after(disk.clone());
        }
    }
    on_disk(&mut history, &mut disk);
    assert_eq!(read(&disk), expected);
}

#[test]
fn it_is_bounded_and_the_latest_is_kept() {
    let mut disk = Sheets::new();
    let mut history = History::after(Sheets::new());
    // Nothing is written meanwhile: memory is bounded, too.
    for step in 0..100_000_u64 {
        history.note(START + step * 100, Noted::Contact);
    }
    assert_eq!(history.sheets.len(), SHEETS_MAX as usize);
    on_disk(&mut history, &mut disk);
    let kept = read(&disk);
    assert!((31 * ENTRIES_MAX..=32 * ENTRIES_MAX).contains(&kept.len()), "{}", kept.len());
    let bytes: usize = disk.values().map(|sheet| postcard::to_allocvec(sheet).unwrap().len()).sum();
    assert!(bytes <= 32 * 820, "{bytes}");
}

#[test]
fn thirty_days_are_kept_and_the_floor_before_them_is_known() {
    let mut disk = Sheets::new();
    let mut history = History::after(Sheets::new());
    history.note(START, Noted::Floor(Urgency::Normal));
    for hour in 0..50 * 24_u64 {
        history.note(START + hour * 36_000, Noted::Push(Urgency::High));
        on_disk(&mut history, &mut disk);
    }
    let kept = read(&disk);
    assert_eq!(kept[..2], [(0, Noted::Floor(Urgency::Normal)), (0, Noted::Push(Urgency::High))]);
    assert_eq!((kept.len(), kept.last().unwrap().0), (30 * 24 + 2, KEPT_DS));
    assert!(disk.len() < 7, "{}", disk.len());
}

#[test]
fn time_does_not_go_back() {
    let mut history = History::after(Sheets::new());
    for at in [START + 50, START, START + 60] {
        history.note(at, Noted::Contact);
    }
    let times: Vec<_> = read(&history.unwritten()).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [0, 0, 10]);
    // A wall clock that was ahead before a restart.
    let mut later = History::after(history.take());
    later.note(START, Noted::Contact);
    assert_eq!(read(&later.unwritten()).last(), Some(&(10, Noted::Contact)));
}
