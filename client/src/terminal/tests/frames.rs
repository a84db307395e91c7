//! Frames against files. `PETREL_UPDATE_FRAMES=1` writes them anew.

use std::path::Path;

use super::*;

fn compare(name: &str, frame: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/terminal/tests/frames")
        .join(format!("{name}.txt"));
    if std::env::var_os("PETREL_UPDATE_FRAMES").is_some() {
        std::fs::write(&file, frame).unwrap();
    }
    let wanted = std::fs::read_to_string(&file).unwrap();
    assert_eq!(frame, wanted, "{} is another one; got:\n{frame}", file.display());
}

#[test]
fn a_conversation_with_new_messages() {
    compare("conversation", &Screen::with_two(80, 16).draw());
}

#[test]
fn the_same_on_a_narrow_terminal() {
    compare("narrow", &Screen::with_two(40, 10).draw());
}

#[test]
fn a_group_in_which_things_happened() {
    compare("group", &Screen::with_group(80, 16).draw());
}

#[test]
fn the_menu_of_a_message() {
    let mut screen = Screen::with_group(80, 20);
    screen.draw();
    screen.key(KeyCode::Esc);
    screen.draw();
    screen.key(KeyCode::Enter);
    compare("menu", &screen.draw());
}

#[test]
fn the_start_of_somebody_who_knows_nobody() {
    compare("empty", &Screen::new(80, 12).draw());
}

#[test]
fn the_help() {
    let mut screen = Screen::with_two(80, 20);
    screen.key(KeyCode::F(1));
    compare("help", &screen.draw());
}

#[test]
fn every_size_is_drawn() {
    for (columns, rows) in [(1, 1), (2, 3), (10, 5), (40, 10), (59, 9), (60, 10), (300, 100)] {
        let mut screen = Screen::with_two(columns, rows);
        screen.type_line("/nonsense");
        screen.draw();
        screen.key(KeyCode::F(1));
        screen.draw();
    }
}
