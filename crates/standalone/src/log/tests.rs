use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn write(writer: &mut Writer, lines: std::ops::Range<u32>) {
    for line in lines {
        let now = UNIX_EPOCH + Duration::from_secs(u64::from(line));
        writer.append(now, Stream::Stdout, format!("line {line}").as_bytes(), true).unwrap();
    }
}

fn text(options: ReadOptions, directory: &Directory) -> String {
    String::from_utf8(directory.read(options).unwrap().unwrap().0).unwrap()
}

#[test]
fn files_rotate_by_size_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::new(folder.path().join("c"));
    let limits = Limits { file_bytes_max: 100, files_max: 3 };
    let mut writer = directory.start_run(limits).unwrap();
    write(&mut writer, 0..100);
    let mut names: Vec<_> = fs::read_dir(folder.path().join("c"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["0.log", "0.log.1", "0.log.2"]);
    for name in names {
        assert!(fs::metadata(folder.path().join("c").join(name)).unwrap().len() < 200);
    }
    let all = text(ReadOptions::default(), &directory);
    assert!(all.ends_with("line 98\nline 99\n"), "{all}");
    let tail = text(ReadOptions { tail: Some(5), ..ReadOptions::default() }, &directory);
    assert_eq!(tail, "line 95\nline 96\nline 97\nline 98\nline 99\n");
    let none = text(ReadOptions { tail: Some(0), ..ReadOptions::default() }, &directory);
    assert_eq!(none, "");
}

#[test]
fn a_follower_misses_nothing_across_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::new(folder.path().to_owned());
    let limits = Limits { file_bytes_max: 200, files_max: 3 };
    let mut writer = directory.start_run(limits).unwrap();
    write(&mut writer, 0..3);
    let (first, mut follower) = directory.read(ReadOptions::default()).unwrap().unwrap();
    let mut followed = String::from_utf8(first).unwrap();
    for step in (3..60).step_by(9) {
        write(&mut writer, step..(step + 9).min(60));
        followed.push_str(std::str::from_utf8(&follower.read_more().unwrap()).unwrap());
    }
    let expected: String =
        (0..60).map(|line| format!("line {line}\n")).collect::<Vec<_>>().concat();
    assert_eq!(followed, expected);
    assert!(follower.read_more().unwrap().is_empty());
}

#[test]
fn the_previous_run_is_kept_and_older_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::new(folder.path().to_owned());
    assert!(directory.read(ReadOptions::default()).unwrap().is_none());
    for run in 0..4 {
        write(&mut directory.start_run(Limits::default()).unwrap(), run..run + 1);
    }
    assert_eq!(directory.runs(), [2, 3]);
    assert_eq!(text(ReadOptions::default(), &directory), "line 3\n");
    let previous = ReadOptions { previous: true, timestamps: true, ..ReadOptions::default() };
    assert_eq!(text(previous, &directory), "1970-01-01T00:00:02.000000000Z line 2\n");
}

#[test]
fn lines_are_cut_at_breaks_and_at_the_bound() {
    let mut lines = Lines::default();
    let mut seen = Vec::new();
    let mut take = |line: &[u8], full: bool| seen.push((line.len(), full));
    lines.push(b"ab", &mut take);
    lines.push(b"c\n\nde", &mut take);
    lines.finish(&mut take);
    lines.push(&vec![b'x'; LINE_BYTES_MAX * 2 + 1], &mut take);
    lines.push(b"\n", &mut take);
    lines.finish(&mut take);
    let long = (LINE_BYTES_MAX, false);
    assert_eq!(seen, [(3, true), (0, true), (2, true), long, long, (1, true)]);
}

#[test]
fn pieces_of_a_long_line_are_shown_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::new(folder.path().to_owned());
    let mut writer = directory.start_run(Limits::default()).unwrap();
    writer.append(UNIX_EPOCH, Stream::Stderr, b"one ", false).unwrap();
    writer.append(UNIX_EPOCH, Stream::Stderr, b"line", true).unwrap();
    assert_eq!(text(ReadOptions::default(), &directory), "one line\n");
}
