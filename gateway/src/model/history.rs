//! What happened to one device, as far as the choice of a profile needs it: times and urgencies, and nothing
//! of what the messages were or from whom they came.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Urgency;

/// Sheets that are kept of one device.
pub const SHEETS_MAX: u32 = 32;
/// Entries of a full sheet: at most 800 bytes on disk, mostly 400.
const ENTRIES_MAX: usize = 160;
/// What is older than this is not kept, in tenths of a second: 30 days.
const KEPT_DS: u64 = 30 * 864_000;

/// Something that happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Noted {
    /// The device spoke by itself, and its radio had been asleep.
    Contact,
    /// This is the lowest urgency that it wants from now on.
    Floor(Urgency),
    /// A message came for it.
    Push(Urgency),
}

/// When something happened, in tenths of a second from any beginning.
pub type Happened = (u64, Noted);

/// A stretch of time: what is written at once.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sheet {
    /// When it begins, in tenths of a second since 1970.
    begin_ds: u64,
    /// What the device wanted then.
    floor: Urgency,
    /// Tenths of a second since the entry before, times 16, plus what happened.
    entries: Vec<u32>,
}

/// Sheets by their numbers: the higher is the later one.
pub type Sheets = BTreeMap<u32, Sheet>;

/// What is being written down of a device.
#[derive(Debug)]
pub struct History {
    changed: bool,
    floor: Urgency,
    last_ds: u64,
    /// Those that are not on disk, and the one that has room.
    sheets: Sheets,
}

impl Noted {
    fn code(self) -> u32 {
        match self {
            Self::Contact => 0,
            Self::Push(urgency) => 1 + urgency as u32,
            Self::Floor(urgency) => 5 + urgency as u32,
        }
    }

    fn read(code: u32) -> Option<Self> {
        const ALL: [Urgency; 4] = [Urgency::VeryLow, Urgency::Low, Urgency::Normal, Urgency::High];
        let urgency = |from: u32| usize::try_from(code - from).ok().and_then(|at| ALL.get(at)).copied();
        match code {
            0 => Some(Self::Contact),
            1..=4 => urgency(1).map(Self::Push),
            5.. => urgency(5).map(Self::Floor),
        }
    }
}

impl Sheet {
    fn last_ds(&self) -> u64 {
        self.begin_ds + self.entries.iter().map(|entry| u64::from(entry >> 4)).sum::<u64>()
    }

    /// What happened, and when, in tenths of a second since 1970. What a later release has written is
    /// passed over.
    fn read(&self) -> impl Iterator<Item = Happened> {
        let mut at = self.begin_ds;
        self.entries.iter().filter_map(move |entry| {
            at += u64::from(entry >> 4);
            Noted::read(entry & 15).map(|event| (at, event))
        })
    }

    /// What the device wants at its end.
    fn floor_after(&self) -> Urgency {
        let floors = self.read().filter_map(|(_, event)| match event {
            Noted::Floor(floor) => Some(floor),
            Noted::Contact | Noted::Push(_) => None,
        });
        floors.last().unwrap_or(self.floor)
    }
}

impl History {
    /// Goes on after what is on disk.
    #[must_use]
    pub fn after(mut written: Sheets) -> Self {
        let sheets: Sheets = written.pop_last().into_iter().collect();
        let last = sheets.values().next();
        Self {
            changed: false,
            floor: last.map_or(Urgency::VeryLow, Sheet::floor_after),
            last_ds: last.map_or(0, Sheet::last_ds),
            sheets,
        }
    }

    /// What the device wants, as far as was noted.
    #[must_use]
    pub fn floor(&self) -> Urgency {
        self.floor
    }

    /// When the last of it happened, in tenths of a second since 1970.
    #[must_use]
    pub fn last_ds(&self) -> u64 {
        self.last_ds
    }

    /// Notes something. Time does not go back: what comes earlier comes at the same time.
    pub fn note(&mut self, at_ds: u64, event: Noted) {
        let at = at_ds.max(self.last_ds);
        let open = self.sheets.last_key_value().map(|(number, sheet)| (*number, sheet.entries.len()));
        let number = match open {
            Some((number, entries)) if entries < ENTRIES_MAX => number,
            full => {
                let number = full.map_or(0, |(number, _)| number.saturating_add(1));
                self.sheets.insert(number, Sheet { begin_ds: at, floor: self.floor, entries: Vec::new() });
                self.last_ds = at;
                prune(&mut self.sheets);
                number
            }
        };
        // 2^28 tenths of a second are ten months: far longer than anything is kept.
        let gap = u32::try_from(at - self.last_ds).unwrap_or(u32::MAX).min(u32::MAX >> 4);
        if let Some(sheet) = self.sheets.get_mut(&number) {
            sheet.entries.push((gap << 4) | event.code());
        }
        self.last_ds += u64::from(gap);
        if let Noted::Floor(floor) = event {
            self.floor = floor;
        }
        self.changed = true;
    }

    /// What is not on disk yet, nor as it is now.
    #[must_use]
    pub fn unwritten(&self) -> Sheets {
        if self.changed { self.sheets.clone() } else { Sheets::new() }
    }

    /// What is to be written now, once.
    pub fn take(&mut self) -> Sheets {
        let taken = self.unwritten();
        self.changed = false;
        self.sheets = self.sheets.pop_last().into_iter().collect();
        taken
    }
}

/// Forgets what is too old, or too much.
pub fn prune(sheets: &mut Sheets) {
    let Some((&newest, last)) = sheets.last_key_value() else { return };
    let (oldest, since) = (newest.saturating_sub(SHEETS_MAX - 1), last.last_ds().saturating_sub(KEPT_DS));
    sheets.retain(|number, sheet| *number == newest || *number >= oldest && sheet.last_ds() >= since);
}

/// What happened in the last 30 days, in order, from 0 on. A floor that the device had before stands first.
#[must_use]
pub fn read(sheets: &Sheets) -> Vec<Happened> {
    let since = sheets.values().map(Sheet::last_ds).max().unwrap_or_default().saturating_sub(KEPT_DS);
    let mut happened = Vec::new();
    let (mut before, mut at) = (sheets.values().next().map_or(Urgency::VeryLow, |sheet| sheet.floor), 0);
    for (when, event) in sheets.values().flat_map(Sheet::read) {
        at = when.max(at);
        if at >= since {
            happened.push((at, event));
        } else if let Noted::Floor(floor) = event {
            before = floor;
        }
    }
    let Some(&(start, _)) = happened.first() else { return happened };
    if before > Urgency::VeryLow {
        happened.insert(0, (start, Noted::Floor(before)));
    }
    happened.iter_mut().for_each(|(at, _)| *at -= start);
    happened
}
