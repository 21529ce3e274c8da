//! What `top` draws, and what its keys mean.

use std::collections::VecDeque;
use std::time::Duration;

use pymq::QueueStats;

use super::trouble::{Trouble, troubles};
use super::watch::{FunctionWatch, QueueWatch, TopicWatch, Watch};
use crate::output::printable;
use crate::screen::Key;
use crate::table::span;

/// The most lines that say what is wrong.
const ALARMS: usize = 6;

const HELP: &str =
    "q quit  s sort  / filter  space pause  \u{2191}\u{2193} select  enter inspect  r redrive";

/// One line that can be selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Queue(String),
    Topic(String),
    Function(String),
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    End,
    Inspect(Row),
    Redrive(String),
}

/// How it is looked at.
#[derive(Debug, Default)]
pub(super) struct View {
    selected: usize,
    /// The busiest first, or by name.
    by_name: bool,
    filter: String,
    typing: bool,
    pub(super) paused: bool,
    /// A queue whose dead letters are to go back, if somebody says yes.
    asking: Option<String>,
    /// Lines about one thing, in place of everything else.
    pub(super) shown: Option<Vec<String>>,
    /// What was done last.
    pub(super) said: Option<String>,
    /// Why nothing new is known.
    pub(super) trouble: Option<String>,
}

impl View {
    /// Takes a key.
    pub(super) fn press(&mut self, watch: &Watch, key: Key) -> Asked {
        if self.shown.take().is_some() {
            return Asked::Nothing;
        }
        if let Some(queue) = self.asking.take() {
            return match key {
                Key::Char('y' | 'Y') => Asked::Redrive(queue),
                _ => Asked::Nothing,
            };
        }
        if self.typing {
            self.type_filter(key);
            return Asked::Nothing;
        }
        self.said = None;
        let rows = self.rows(watch);
        let selected = rows.get(self.selected);
        match key {
            Key::Char('q') => return Asked::End,
            Key::Char('s') => self.by_name = !self.by_name,
            Key::Char('/') => self.typing = true,
            Key::Char(' ') => self.paused = !self.paused,
            Key::Char('k') | Key::Up => self.selected = self.selected.saturating_sub(1),
            Key::Char('j') | Key::Down => {
                self.selected = (self.selected + 1).min(rows.len().saturating_sub(1));
            }
            Key::Escape => self.filter.clear(),
            Key::Enter => return selected.cloned().map_or(Asked::Nothing, Asked::Inspect),
            Key::Char('r') => match selected {
                Some(Row::Queue(name)) => self.asking = Some(name.clone()),
                _ => self.said = Some("select a queue first".to_owned()),
            },
            Key::Char(_) | Key::Backspace => {}
        }
        Asked::Nothing
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(character) => self.filter.push(character),
            Key::Up | Key::Down => {}
        }
        self.selected = 0;
    }

    /// Everything that is listed, in the order of the screen.
    fn rows(&self, watch: &Watch) -> Vec<Row> {
        let queues = self.queues(watch).into_iter().map(|(name, _)| Row::Queue(name.clone()));
        let topics = self.topics(watch).into_iter().map(|(name, _)| Row::Topic(name.clone()));
        let functions = self.functions(watch).into_iter();
        queues.chain(topics).chain(functions.map(|(name, _)| Row::Function(name.clone()))).collect()
    }

    fn queues<'w>(&self, watch: &'w Watch) -> Vec<(&'w String, &'w QueueWatch)> {
        self.sorted(&watch.queues, |queue| (queue.stats.waiting + queue.stats.dead) as f64)
    }

    fn topics<'w>(&self, watch: &'w Watch) -> Vec<(&'w String, &'w TopicWatch)> {
        self.sorted(&watch.topics, |topic| topic.rate)
    }

    fn functions<'w>(&self, watch: &'w Watch) -> Vec<(&'w String, &'w FunctionWatch)> {
        // One that nobody answers comes first, whatever its rate.
        let weight = |function: &FunctionWatch| match function.providers() {
            (_, 0) if !function.is_forsaken() => function.rate,
            _ => f64::MAX,
        };
        self.sorted(&watch.functions, weight)
    }

    fn sorted<'w, T>(
        &self,
        things: &'w std::collections::BTreeMap<String, T>,
        weight: impl Fn(&T) -> f64,
    ) -> Vec<(&'w String, &'w T)> {
        let mut sorted: Vec<_> =
            things.iter().filter(|(name, _)| name.contains(&self.filter)).collect();
        if !self.by_name {
            sorted.sort_by(|(_, one), (_, other)| weight(other).total_cmp(&weight(one)));
        }
        sorted
    }

    /// The lines of a screen, none wider than it.
    pub(super) fn draw(&mut self, watch: &Watch, columns: usize, rows: usize) -> Vec<String> {
        let mut lines = vec![cut(&self.heading(watch), columns)];
        if let Some(shown) = &self.shown {
            lines.extend(shown.iter().map(|line| cut(&printable(line), columns)));
            lines.truncate(rows.saturating_sub(1));
            lines.push(cut("any key goes back", columns));
            return lines;
        }
        let troubles = troubles(watch);
        lines.extend(alarms(&troubles).map(|line| bold(&cut(&printable(&line), columns))));
        let room = rows.saturating_sub(1 + 3 + lines.len());
        let (queues, topics, functions) =
            (self.queues(watch), self.topics(watch), self.functions(watch));
        self.selected =
            self.selected.min((queues.len() + topics.len() + functions.len()).saturating_sub(1));
        let sizes = shares(room, [queues.len(), topics.len(), functions.len()]);
        let name = columns.saturating_sub(56).clamp(8, 60);
        let head = format!(
            "{:<name$} {:>8} {:>7} {:>6} {:>6} {:>7}  DEPTH",
            "QUEUE", "WAITING", "DELAYED", "LEASED", "DEAD", "OLDEST"
        );
        let mut first = 0;
        let mut section = |head: String, all: Vec<String>, size: usize| {
            lines.push(bold(&cut(&head, columns)));
            let at = self.selected.checked_sub(first).filter(|at| *at < all.len());
            // The selected line is always among those shown.
            let skipped = at.map_or(0, |at| (at + 1).saturating_sub(size));
            for (place, line) in all.iter().enumerate().skip(skipped).take(size) {
                let line = cut(line, columns);
                lines.push(if at == Some(place) { reverse(&line) } else { line });
            }
            first += all.len();
        };
        section(
            head,
            queues.iter().map(|(it, queue)| queue_line(it, queue, name)).collect(),
            sizes[0],
        );
        let head = format!("{:<name$} {:>8} {:>12}", "TOPIC", "EVENTS/S", "SUBSCRIBERS");
        section(
            head,
            topics.iter().map(|(it, topic)| topic_line(it, topic, name)).collect(),
            sizes[1],
        );
        let head = format!(
            "{:<name$} {:>8} {:>8} {:>8} {:>10}",
            "FUNCTION", "CALLS/S", "P50", "P95", "PROVIDERS"
        );
        let all = functions.iter().map(|(it, function)| function_line(it, function, name));
        section(head, all.collect(), sizes[2]);
        lines.resize(rows.saturating_sub(1), String::new());
        lines.push(cut(&self.footer(), columns));
        lines
    }

    fn heading(&self, watch: &Watch) -> String {
        let paused = if self.paused { "  PAUSED" } else { "" };
        let filter = match (self.typing, self.filter.is_empty()) {
            (false, true) => String::new(),
            (typing, _) => format!("  /{}{}", self.filter, if typing { "_" } else { "" }),
        };
        let counts = [watch.queues.len(), watch.topics.len(), watch.functions.len()];
        let [queues, topics, functions] = counts;
        let state = match &self.trouble {
            Some(why) => format!("AWAY: {why}"),
            None => watch.state.to_string(),
        };
        printable(&format!(
            "pymq top  {queues} queues, {topics} topics, {functions} functions{paused}{filter}  {state}"
        ))
    }

    fn footer(&self) -> String {
        match (&self.asking, &self.said) {
            (Some(queue), _) => printable(&format!("move the dead letters of {queue} back? y/n")),
            (None, Some(said)) => printable(said),
            (None, None) => HELP.to_owned(),
        }
    }
}

fn queue_line(name: &str, queue: &QueueWatch, width: usize) -> String {
    let QueueStats { waiting, delayed, leased, dead, .. } = queue.stats;
    let oldest = queue.oldest.map_or_else(|| "-".to_owned(), span);
    let (name, depth) = (padded(name, width), sparkline(&queue.depths));
    format!("{name} {waiting:>8} {delayed:>7} {leased:>6} {dead:>6} {oldest:>7}  {depth}")
}

fn topic_line(name: &str, topic: &TopicWatch, width: usize) -> String {
    let TopicWatch { rate, subscribers, .. } = topic;
    format!("{} {rate:>8.1} {subscribers:>12}", padded(name, width))
}

fn function_line(name: &str, function: &FunctionWatch, width: usize) -> String {
    let time = |percent| function.percentile(percent).map_or_else(|| "-".to_owned(), milliseconds);
    let (there, silent) = function.providers();
    let silent = match silent {
        0 if function.is_forsaken() => "  GONE".to_owned(),
        0 => String::new(),
        some => format!("  {some} NOT ANSWERING"),
    };
    let (name, rate) = (padded(name, width), function.rate);
    format!("{name} {rate:>8.1} {:>8} {:>8} {there:>10}{silent}", time(50), time(95))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn padded(name: &str, width: usize) -> String {
    format!("{:<width$}", cut(&printable(name), width))
}

/// A line of at most so many characters.
fn cut(line: &str, columns: usize) -> String {
    match line.char_indices().nth(columns) {
        None => line.to_owned(),
        Some(_) => {
            let kept: String = line.chars().take(columns.saturating_sub(1)).collect();
            kept + "\u{2026}"
        }
    }
}

fn bold(line: &str) -> String {
    format!("\x1b[1m{line}\x1b[0m")
}

fn reverse(line: &str) -> String {
    format!("\x1b[7m{line}\x1b[0m")
}

/// How deep it was, each time lower or higher than the highest.
fn sparkline(depths: &VecDeque<usize>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = depths.iter().copied().max().unwrap_or_default().max(1);
    depths.iter().rev().take(12).rev().map(|depth| BARS[depth * 7 / highest]).collect()
}

/// What is wrong, as far as there is room for it.
fn alarms(troubles: &[Trouble]) -> impl Iterator<Item = String> {
    let more = troubles.len().saturating_sub(ALARMS);
    let more = (more > 0).then(|| format!("! and {more} more: pymq doctor"));
    troubles.iter().take(ALARMS).map(Trouble::line).chain(more)
}

/// How many lines each of three sections gets of `room`: what it needs, as far as there is room, and
/// none less than its share.
fn shares(room: usize, needed: [usize; 3]) -> [usize; 3] {
    let mut given = [0; 3];
    for _ in 0..room {
        let hungry = (0..3).filter(|&at| given[at] < needed[at]).min_by_key(|&at| given[at]);
        let Some(hungry) = hungry else { break };
        given[hungry] += 1;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared_so_that_no_section_starves() {
        assert_eq!(shares(19, [2, 3, 1]), [2, 3, 1]);
        assert_eq!(shares(9, [100, 100, 1]), [4, 4, 1]);
        assert_eq!(shares(0, [1, 1, 1]), [0, 0, 0]);
    }

    #[test]
    fn a_sparkline_is_as_high_as_the_highest() {
        assert_eq!(sparkline(&[0, 7, 14].into()), "▁▄█");
        assert_eq!(sparkline(&[0, 0].into()), "▁▁");
        assert_eq!(sparkline(&VecDeque::new()), "");
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        assert_eq!(cut("Grüße", 5), "Grüße");
        assert_eq!(cut("Grüße!", 5), "Grüß\u{2026}");
    }
}
