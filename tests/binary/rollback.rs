//! `weir rollback`: exit codes and what is said.

use super::support::{HELLO, Program, folder, get, output, stderr, stdout};

#[test]
fn it_returns_to_what_ran_before_and_says_that_the_file_differs() {
    let (folder, file) = folder(HELLO);
    let program = Program::run(folder.path());
    let url = program.admin_url();
    let weir = |command: &[&str]| {
        let arguments = command.iter().copied().chain(["--admin", &url]);
        output(folder.path(), arguments)
    };
    let nothing = weir(&["rollback"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(
        stderr(&nothing).starts_with("refused: no other config ran before"),
        "{}",
        stderr(&nothing)
    );
    let runs: serde_json::Value =
        serde_json::from_str(&stdout(&weir(&["status", "--json"]))).unwrap();
    let first = runs["config"]["hash"].as_str().unwrap().to_owned();
    std::fs::write(&file, HELLO.replace("hello", "changed")).unwrap();
    let taken = weir(&["reload"]);
    assert_eq!(taken.status.code(), Some(0), "{}", stderr(&taken));
    let change = "~ route.site.respond.body: \"hello\" -> \"changed\"\n";
    assert!(stderr(&taken).contains(change), "{}", stderr(&taken));
    program.logged("changed: ~ route.site.respond.body");

    let rolled_back = weir(&["rollback"]);
    assert_eq!(
        rolled_back.status.code(),
        Some(0),
        "{}",
        stderr(&rolled_back)
    );
    let told = stderr(&rolled_back);
    assert!(
        told.starts_with(&format!("rolled back, hash {first}\n")),
        "{told}"
    );
    assert!(told.contains("`weir.toml` is not what runs"), "{told}");
    assert!(get(program.address("web"), "/").ends_with("hello"));
    program.logged("config rolled back");
    let status = stdout(&weir(&["status"]));
    assert!(
        status.contains("ROLLED BACK: weir.toml is not what runs\n"),
        "{status}"
    );
    assert_eq!(
        weir(&["diff"]).status.code(),
        Some(1),
        "it is the file that would change it"
    );

    let again = weir(&["rollback"]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(get(program.address("web"), "/").ends_with("changed"));
    assert!(!stdout(&weir(&["status"])).contains("ROLLED BACK"));
    assert_eq!(weir(&["diff"]).status.code(), Some(0));
    assert_eq!(weir(&["rollback", &first]).status.code(), Some(0));
    assert_eq!(weir(&["rollback", "nonsense"]).status.code(), Some(1));
}

#[test]
fn after_a_refused_file_it_says_that_the_file_never_ran() {
    let (folder, file) = folder(HELLO);
    let program = Program::run(folder.path());
    let url = program.admin_url();
    let weir = |command: &str| output(folder.path(), [command, "--admin", &url]);
    std::fs::write(&file, HELLO.replace("hello", "changed")).unwrap();
    assert_eq!(weir("reload").status.code(), Some(0));
    std::fs::write(&file, HELLO.replace("respond", "respnod")).unwrap();
    assert_eq!(weir("reload").status.code(), Some(1));
    let told = weir("rollback");
    assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
    let told = stderr(&told);
    assert!(
        told.contains(
            "\nthe file was refused and never ran: this went from the config that ran, `"
        ),
        "{told}"
    );
    assert!(get(program.address("web"), "/").ends_with("hello"));
    assert_eq!(weir("rollback").status.code(), Some(0));
    assert!(get(program.address("web"), "/").ends_with("changed"));
}
