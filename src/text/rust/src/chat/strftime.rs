//! `datetime.now().strftime` for the C locale and a naive date.

use std::fmt::Write;

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

struct Civil {
    year: i64,
    /// 1..=12
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// 0 is Sunday.
    weekday: i64,
    /// 1..=366
    yearday: i64,
}

/// Days and civil dates: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil(seconds: i64) -> Civil {
    // Years 0001..9999, as Python's datetime.
    let seconds = seconds.clamp(-62_135_596_800, 253_402_300_799);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    // `doy` counts from the first of March.
    let yearday = if mp < 10 { doy + 60 + i64::from(leap) } else { doy - 305 };
    Civil {
        year,
        month,
        day: doy - (153 * mp + 2) / 5 + 1,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
        weekday: (days + 4).rem_euclid(7),
        yearday,
    }
}

pub fn strftime(seconds: i64, format: &str) -> String {
    let time = civil(seconds);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let rest = chars.as_str();
        let unpadded = rest.starts_with('-');
        if unpadded {
            chars.next();
        }
        match chars.next() {
            Some(code) if directive(&mut out, &time, code, unpadded) => {}
            Some(code) => {
                out.push_str(if unpadded { "%-" } else { "%" });
                out.push(code);
            }
            None => out.push('%'),
        }
    }
    out
}

fn directive(out: &mut String, t: &Civil, code: char, unpadded: bool) -> bool {
    match (number(t, code), text(t, code)) {
        (Some((value, _)), _) if unpadded => {
            let _ = write!(out, "{value}");
        }
        (Some((value, width)), _) => {
            let _ = write!(out, "{value:0width$}");
        }
        (None, Some(text)) => out.push_str(&text),
        (None, None) => return false,
    }
    true
}

/// The value and width of a numeric directive.
fn number(t: &Civil, code: char) -> Option<(i64, usize)> {
    Some(match code {
        'Y' => (t.year, 4),
        'm' => (t.month, 2),
        'd' => (t.day, 2),
        'H' => (t.hour, 2),
        'I' => ((t.hour + 11) % 12 + 1, 2),
        'M' => (t.minute, 2),
        'S' => (t.second, 2),
        'y' => (t.year % 100, 2),
        'C' => (t.year / 100, 2),
        'j' => (t.yearday, 3),
        'f' => (0, 6),
        'w' => (t.weekday, 1),
        'u' => ((t.weekday + 6) % 7 + 1, 1),
        'U' => ((t.yearday + 6 - t.weekday) / 7, 2),
        'W' => ((t.yearday + 6 - (t.weekday + 6) % 7) / 7, 2),
        _ => return None,
    })
}

fn text(t: &Civil, code: char) -> Option<String> {
    let month = MONTHS[(t.month - 1) as usize];
    let day = DAYS[t.weekday as usize];
    let clock = || format!("{:02}:{:02}:{:02}", t.hour, t.minute, t.second);
    Some(match code {
        'e' => format!("{:2}", t.day),
        'b' | 'h' => month[..3].to_owned(),
        'B' => month.to_owned(),
        'a' => day[..3].to_owned(),
        'A' => day.to_owned(),
        'p' => if t.hour < 12 { "AM" } else { "PM" }.to_owned(),
        'Z' | 'z' => String::new(),
        '%' => "%".to_owned(),
        'n' => "\n".to_owned(),
        't' => "\t".to_owned(),
        'D' | 'x' => format!("{:02}/{:02}/{:02}", t.month, t.day, t.year % 100),
        'F' => format!("{:04}-{:02}-{:02}", t.year, t.month, t.day),
        'T' | 'X' => clock(),
        'R' => format!("{:02}:{:02}", t.hour, t.minute),
        'c' => format!("{} {} {:2} {} {:04}", &day[..3], &month[..3], t.day, clock(), t.year),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_print_as_in_python() {
        // 2024-02-29 13:05:09, a Thursday.
        let leap = 1_709_211_909;
        assert_eq!(strftime(leap, "%d %b %Y"), "29 Feb 2024");
        assert_eq!(strftime(leap, "%A, %B %-d %I:%M:%S %p"), "Thursday, February 29 01:05:09 PM");
        assert_eq!(strftime(leap, "%j %U %W %u %w %y %%"), "060 08 09 4 4 24 %");
        assert_eq!(strftime(leap, "%c|%F|%T"), "Thu Feb 29 13:05:09 2024|2024-02-29|13:05:09");
        assert_eq!(strftime(0, "%F %a %j"), "1970-01-01 Thu 001");
        assert_eq!(strftime(i64::MAX, "%F"), "9999-12-31");
        assert_eq!(strftime(i64::MIN, "%F"), "0001-01-01");
        assert_eq!(strftime(-1, "%F %T"), "1969-12-31 23:59:59");
        assert_eq!(strftime(0, "%"), "%");
    }
}
