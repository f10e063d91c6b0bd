//! Held against the implementation of those who invented the test.

use landfall_controller_core::analysis::wealth::Wealth;

/// `reference.py` has written the table, with `confseq` from PyPI.
const TABLE: &str = include_str!("reference.tsv");

#[test]
fn a_wealth_is_what_confseq_makes_of_the_same_figures() {
    let numbers = |words: &str| words.split(' ').map(|word| word.parse::<f64>().unwrap()).collect::<Vec<_>>();
    let mut lines = 0;
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let [name, mean, figures, theirs] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let mean: f64 = mean.parse().unwrap();
        let mut wealth = Wealth::default();
        let (mut highest, mut after) = (1.0_f64, 0);
        for (figure, theirs) in numbers(figures).into_iter().zip(numbers(theirs)) {
            wealth.observe(figure, mean);
            after += 1;
            highest = highest.max(theirs);
            let close = |ours: f64, theirs: f64| (ours - theirs).abs() <= 1e-9 * theirs.max(1e-3);
            assert!(
                close(wealth.now(), theirs),
                "{name} at {mean}, after {after}: {} for {theirs}",
                wealth.now()
            );
            assert!(close(wealth.highest(), highest), "{name} at {mean}, after {after}");
        }
        lines += 1;
    }
    assert_eq!(lines, 40);
}
