//! Quoting for a shell that is not ours: what ssh and a batch script run goes through one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Returns arguments as a line of a POSIX shell, which makes of it these arguments; `None` if one has a zero byte, which no
/// argument can.
pub(super) fn quoted(argv: &[impl AsRef<OsStr>]) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    for argument in argv {
        if !line.is_empty() {
            line.push(b' ');
        }
        line.push(b'\'');
        for &byte in argument.as_ref().as_bytes() {
            match byte {
                0 => return None,
                // The quotes end, a quote, and they begin again.
                b'\'' => line.extend_from_slice(b"'\\''"),
                byte => line.push(byte),
            }
        }
        line.push(b'\'');
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// Has the shells of this machine take a line apart.
    fn taken_apart(line: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let script = [b"printf '%s\\0' ", line].concat();
        let shells = ["sh", "bash"].into_iter();
        let ran = shells.filter_map(|shell| {
            let mut command = Command::new(shell);
            let output = command.arg("-c").arg(std::ffi::OsString::from_vec(script.clone())).output().ok()?;
            Some((shell, output.stdout))
        });
        ran.collect()
    }

    fn argument() -> impl Strategy<Value = Vec<u8>> {
        let nasty = prop::sample::select(&b"'\"\\$`!*?~#&;|<>(){}[] \t\n\r=%^-\x01\x7f\xff\xc3a"[..]);
        prop::collection::vec(prop_oneof![3 => nasty, 1 => 1_u8..], 0..24)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_shell_makes_of_the_line_what_was_quoted(argv in prop::collection::vec(argument(), 1..8)) {
            let line = quoted(&argv.iter().map(|argument| OsStr::from_bytes(argument)).collect::<Vec<_>>()).unwrap();
            let expected: Vec<u8> = argv.iter().flat_map(|argument| [&argument[..], &[0]].concat()).collect();
            let shells = taken_apart(&line);
            prop_assert!(!shells.is_empty());
            for (shell, made) in shells {
                prop_assert_eq!(&made, &expected, "{}", shell);
            }
        }
    }

    #[test]
    fn quotes_are_where_they_are_needed_and_a_zero_byte_is_refused() {
        let cases: [(&[&str], Option<&str>); 4] = [
            (&["/opt/engine", "a b"], Some("'/opt/engine' 'a b'")),
            (&["it's", ""], Some(r"'it'\''s' ''")),
            (&["$(reboot)", "`x`", "\\"], Some(r"'$(reboot)' '`x`' '\'")),
            (&["a\0b"], None),
        ];
        for (argv, expected) in cases {
            assert_eq!(quoted(argv), expected.map(|line| line.as_bytes().to_vec()));
        }
    }
}
