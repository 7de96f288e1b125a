//! Windows of time that come again each week, in which a flag is on.
//!
//! Times that a change of the clocks leaves out are taken that much later, and of times that come twice the first is meant
//! (what RFC 5545 calls compatible). A window that ends before it begins because of that is left out.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::civil::Time;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::tz::TimeZoneDatabase;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// Days around a time in which a start or an end is looked for: each day of the week comes up twice, so one window may be left out.
const DAYS_AROUND: i32 = 16;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// The words for the days, as they appear in JSON.
pub const DAYS: &[(&str, Day)] = &[
    ("mon", Day::Mon),
    ("tue", Day::Tue),
    ("wed", Day::Wed),
    ("thu", Day::Thu),
    ("fri", Day::Fri),
    ("sat", Day::Sat),
    ("sun", Day::Sun),
];

impl From<Weekday> for Day {
    fn from(weekday: Weekday) -> Self {
        match weekday {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

/// Windows of time that come again each week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Windows {
    /// A name of the IANA time zone database.
    pub time_zone: String,
    /// The days on which they start.
    pub days: Vec<Day>,
    /// When they start, as `09:00`.
    #[schema(value_type = String)]
    pub from: Time,
    /// When they end; on the next day, if that is not later than `from`.
    #[schema(value_type = String)]
    pub to: Time,
}

/// A start or an end of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// When.
    pub at: Timestamp,
    /// Whether the flag is on from then on.
    pub is_start: bool,
}

/// Finds a time zone by its IANA name, in the database that is part of the program.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

impl Windows {
    /// The first start or end after a time; `None` if there is none.
    pub fn next_after(&self, time: Timestamp) -> Option<Edge> {
        self.around(time).into_iter().find(|edge| edge.at > time)
    }

    /// The last start or end up to a time; `None` if there is none.
    pub fn last_until(&self, time: Timestamp) -> Option<Edge> {
        self.around(time).into_iter().rfind(|edge| edge.at <= time)
    }

    /// The starts and ends around a time, in order.
    fn around(&self, time: Timestamp) -> Vec<Edge> {
        let Some(zone) = time_zone(&self.time_zone) else { return Vec::new() };
        let today = zone.to_datetime(time).date();
        let mut edges = Vec::new();
        for offset in -DAYS_AROUND..=DAYS_AROUND {
            let date = today.checked_add(jiff::Span::new().days(offset));
            let Ok(date) = date else { continue };
            if self.days.contains(&Day::from(date.weekday())) {
                edges.extend(self.on(date, &zone).into_iter().flatten());
            }
        }
        // Of an end and a start at once the start counts, so it comes last.
        edges.sort_by_key(|edge: &Edge| (edge.at, edge.is_start));
        edges
    }

    fn on(&self, date: Date, zone: &TimeZone) -> Option<[Edge; 2]> {
        let last = if self.to > self.from { date } else { date.tomorrow().ok()? };
        let instant = |date: Date, time: Time| zone.to_timestamp(date.to_datetime(time)).ok();
        let (start, end) = (instant(date, self.from)?, instant(last, self.to)?);
        let edges = [Edge { at: start, is_start: true }, Edge { at: end, is_start: false }];
        (start < end).then_some(edges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(days: &[Day], from: &str, to: &str) -> Windows {
        let time_zone = "Europe/Berlin".to_owned();
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        Windows { time_zone, days: days.to_vec(), from, to }
    }

    fn edges(windows: &Windows, after: &str, n: usize) -> Vec<String> {
        let mut at: Timestamp = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..n {
            let edge = windows.next_after(at).unwrap();
            assert_eq!(windows.last_until(edge.at), Some(edge));
            found.push(format!("{} {}", if edge.is_start { "on" } else { "off" }, edge.at));
            at = edge.at;
        }
        found
    }

    #[test]
    fn windows_follow_the_clock_on_the_wall() {
        let office = windows(&[Day::Fri, Day::Mon], "09:00", "17:00");
        // On 2026-03-29 the clocks go forward, on 2026-10-25 back.
        assert_eq!(
            edges(&office, "2026-03-27T00:00:00Z", 4),
            [
                "on 2026-03-27T08:00:00Z",
                "off 2026-03-27T16:00:00Z",
                "on 2026-03-30T07:00:00Z",
                "off 2026-03-30T15:00:00Z"
            ]
        );
        assert_eq!(
            edges(&office, "2026-10-23T20:00:00Z", 2),
            ["on 2026-10-26T08:00:00Z", "off 2026-10-26T16:00:00Z"]
        );
    }

    #[test]
    fn times_that_do_not_exist_come_later_and_of_those_that_come_twice_the_first_counts() {
        let night = windows(&[Day::Sun], "02:30", "04:00");
        assert_eq!(
            edges(&night, "2026-03-28T00:00:00Z", 2),
            ["on 2026-03-29T01:30:00Z", "off 2026-03-29T02:00:00Z"]
        );
        assert_eq!(
            edges(&night, "2026-10-24T00:00:00Z", 2),
            ["on 2026-10-25T00:30:00Z", "off 2026-10-25T03:00:00Z"]
        );
        // It would start at 03:30 and end at 03:15.
        let lost = windows(&[Day::Sun], "02:30", "03:15");
        assert_eq!(edges(&lost, "2026-03-28T00:00:00Z", 1), ["on 2026-04-05T00:30:00Z"]);
    }

    #[test]
    fn windows_may_end_on_the_next_day() {
        let night = windows(&[Day::Sat], "22:00", "06:00");
        assert_eq!(
            edges(&night, "2026-11-21T12:00:00Z", 3),
            ["on 2026-11-21T21:00:00Z", "off 2026-11-22T05:00:00Z", "on 2026-11-28T21:00:00Z"]
        );
        let all: Vec<Day> = DAYS.iter().map(|(_, day)| *day).collect();
        let always = windows(&all, "00:00", "23:00");
        assert_eq!(edges(&always, "2026-11-21T12:00:00Z", 1), ["off 2026-11-21T22:00:00Z"]);
    }
}
