//! The knobs of one rollout.

use clap::Args;
use landfall_common::LabelKey;
use landfall_common::strategy::{Amount, Canary, CanaryAnalysis, Spread, Strategy, StrategyKind, Window};
use landfall_common::time::{Duration, human};

use super::duration;

/// Knobs of one rollout, instead of those in landfall.toml.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Knobs of this rollout (default: landfall.toml)")]
pub struct Knobs {
    /// How hosts follow each other: rolling, one_at_a_time, all_at_once or blue_green
    #[arg(long, value_name = "STRATEGY", value_parser = kind)]
    pub strategy: Option<StrategyKind>,
    /// Hosts that go first, such as 2, 5% or role=canary; 0 for no canary
    #[arg(long, value_name = "HOSTS", value_parser = canary)]
    pub canary: Option<Canary>,
    /// How long the canary must be healthy without a break before the next batch, such as 10m; 0s for no hold
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub canary_hold: Option<Duration>,
    /// Go on after the canary without `ctl promote`
    #[arg(long, conflicts_with = "no_auto_promote")]
    pub auto_promote: bool,
    /// Wait after the canary until somebody types `ctl promote`
    #[arg(long)]
    pub no_auto_promote: bool,
    /// Compare the canary with the hosts on the release before, and take the release back if it is worse
    #[arg(long, conflicts_with = "no_analysis")]
    pub analysis: bool,
    /// Do not compare the canary with other hosts
    #[arg(long)]
    pub no_analysis: bool,
    /// Hosts in each later batch, such as 2 or 25%
    #[arg(long, value_name = "AMOUNT", value_parser = amount_of_batch)]
    pub batch: Option<Amount>,
    /// Whether a batch waits for all of the one before (batch), or a host for one of those before it (sliding)
    #[arg(long, value_name = "WINDOW", value_parser = window)]
    pub window: Option<Window>,
    /// The label by whose values hosts change, never two at once, such as zone; of blue_green the one that tells the two
    /// groups apart; none for no label
    #[arg(long, value_name = "LABEL", value_parser = spread)]
    pub spread: Option<Spread>,
    /// How long after one host the next begins at the earliest, such as 30s; 0s for at once
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub stagger: Option<Duration>,
    /// Hosts that may be out at once, such as 1 or 25%
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub max_unavailable: Option<Amount>,
    /// How long a host must be healthy without a break, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub min_healthy: Option<Duration>,
    /// How long a host may take to be healthy for so long, such as 5m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub healthy_deadline: Option<Duration>,
    /// How long nothing may get on before the rollout pauses, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub progress_deadline: Option<Duration>,
    /// How long the rollout may take to reach all hosts before it pauses, such as 2h; 0s for no such end
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub rollout_deadline: Option<Duration>,
    /// Hosts that may fail before everything goes back, such as 1 or 10%
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub failure_budget: Option<Amount>,
    /// Go back when the budget is exceeded
    #[arg(long, conflicts_with = "no_auto_rollback")]
    pub auto_rollback: bool,
    /// Pause instead of going back when the budget is exceeded
    #[arg(long)]
    pub no_auto_rollback: bool,
    /// How long the fleet is watched after the last batch, such as 30m; 0s for no watch
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub watch: Option<Duration>,
}

impl Knobs {
    /// Whether the next batch follows the canary by itself, if that was said.
    #[must_use]
    pub fn promotes(&self) -> Option<bool> {
        match (self.auto_promote, self.no_auto_promote) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// Whether the canary is compared with others, if that was said.
    #[must_use]
    pub fn analyses(&self) -> Option<bool> {
        match (self.analysis, self.no_analysis) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// Whether the release goes back by itself, if that was said.
    #[must_use]
    pub fn goes_back(&self) -> Option<bool> {
        match (self.auto_rollback, self.no_auto_rollback) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// As they are typed.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let label =
            |spread: &Spread| spread.label().map_or_else(|| Spread::NONE.to_owned(), |l| l.to_string());
        let time = |time: &Duration| human::format(*time);
        let valued = [
            ("strategy", self.strategy.map(|kind| kind.word().to_owned())),
            ("canary", self.canary.as_ref().map(Canary::to_string)),
            ("canary-hold", self.canary_hold.as_ref().map(time)),
            ("batch", self.batch.map(|amount| amount.to_string())),
            ("window", self.window.map(|window| window.word().to_owned())),
            ("spread", self.spread.as_ref().map(label)),
            ("stagger", self.stagger.as_ref().map(time)),
            ("max-unavailable", self.max_unavailable.map(|amount| amount.to_string())),
            ("min-healthy", self.min_healthy.as_ref().map(time)),
            ("healthy-deadline", self.healthy_deadline.as_ref().map(time)),
            ("progress-deadline", self.progress_deadline.as_ref().map(time)),
            ("rollout-deadline", self.rollout_deadline.as_ref().map(time)),
            ("failure-budget", self.failure_budget.map(|amount| amount.to_string())),
            ("watch", self.watch.as_ref().map(time)),
        ];
        let flags = [
            ("auto-promote", self.auto_promote),
            ("no-auto-promote", self.no_auto_promote),
            ("analysis", self.analysis),
            ("no-analysis", self.no_analysis),
            ("auto-rollback", self.auto_rollback),
            ("no-auto-rollback", self.no_auto_rollback),
        ];
        let valued = valued.into_iter().filter_map(|(knob, value)| Some([format!("--{knob}"), value?]));
        let flags = flags.into_iter().filter(|(_, said)| *said).map(|(flag, _)| format!("--{flag}"));
        valued.flatten().chain(flags).collect()
    }

    /// The strategy with these differences.
    #[must_use]
    pub fn over(&self, base: &Strategy) -> Strategy {
        Strategy {
            kind: self.strategy.unwrap_or(base.kind),
            canary: self.canary.clone().unwrap_or_else(|| base.canary.clone()),
            canary_hold: self.canary_hold.unwrap_or(base.canary_hold),
            auto_promote: self.promotes().unwrap_or(base.auto_promote),
            analysis: match self.analyses() {
                Some(true) => base
                    .analysis
                    .clone()
                    .or_else(|| Some(CanaryAnalysis::held_for(self.canary_hold.unwrap_or(base.canary_hold)))),
                Some(false) => None,
                None => base.analysis.clone(),
            },
            batch: self.batch.unwrap_or(base.batch),
            window: self.window.unwrap_or(base.window),
            spread: self.spread.as_ref().map_or_else(|| base.spread.clone(), Spread::label),
            stagger: self.stagger.unwrap_or(base.stagger),
            max_unavailable: self.max_unavailable.unwrap_or(base.max_unavailable),
            min_healthy: self.min_healthy.unwrap_or(base.min_healthy),
            healthy_deadline: self.healthy_deadline.unwrap_or(base.healthy_deadline),
            progress_deadline: self.progress_deadline.unwrap_or(base.progress_deadline),
            rollout_deadline: self.rollout_deadline.unwrap_or(base.rollout_deadline),
            failure_budget: self.failure_budget.unwrap_or(base.failure_budget),
            auto_rollback: self.goes_back().unwrap_or(base.auto_rollback),
            watch: self.watch.unwrap_or(base.watch),
            ..base.clone()
        }
    }
}

fn amount(text: &str) -> Result<Amount, String> {
    let (digits, is_share) = text.strip_suffix('%').map_or((text, false), |digits| (digits, true));
    match digits.parse::<u32>() {
        Ok(number) if !is_share => Ok(Amount::Count(number)),
        Ok(number) if number <= 100 => Ok(Amount::Percent(number)),
        _ => Err("write a number of hosts such as 2, or a share such as 25%".to_owned()),
    }
}

fn amount_of_batch(text: &str) -> Result<Amount, String> {
    match amount(text)? {
        Amount::Count(0) | Amount::Percent(0) => {
            Err("no host would ever change: write at least 1, or a share such as 25%".to_owned())
        }
        amount => Ok(amount),
    }
}

fn canary(text: &str) -> Result<Canary, String> {
    text.parse().map_err(|error: landfall_common::strategy::InvalidCanary| error.to_string())
}

fn spread(text: &str) -> Result<Spread, String> {
    if text == Spread::NONE {
        return Ok(Spread::None);
    }
    LabelKey::new(text).map(Spread::Label).map_err(|error| error.to_string())
}

fn window(text: &str) -> Result<Window, String> {
    Window::named(text).ok_or_else(|| format!("write {}", Window::ALL.map(|(_, word)| word).join(" or ")))
}

fn kind(text: &str) -> Result<StrategyKind, String> {
    let words = StrategyKind::ALL.map(|(_, word)| word).join(", ");
    StrategyKind::named(text).ok_or_else(|| format!("write one of {words}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        knobs: Knobs,
    }

    #[test]
    fn what_was_typed_can_be_typed_again() {
        let typed = [
            "--strategy one_at_a_time --canary role=canary,zone=a --canary-hold 10m --stagger 1m30s --spread zone",
            "--canary 5% --batch 2 --window sliding --spread none --auto-promote --no-analysis --watch 1h",
            "--max-unavailable 50% --min-healthy 30s --failure-budget 1 --no-auto-promote --analysis",
            "--no-auto-rollback --canary 0 --canary-hold 0s",
            "--auto-rollback --healthy-deadline 10m --progress-deadline 1h --rollout-deadline 2h",
        ];
        for typed in typed {
            let knobs = |words: Vec<String>| {
                let words = ["ctl".to_owned()].into_iter().chain(words);
                Line::try_parse_from(words).map(|line| line.knobs).unwrap()
            };
            let read = knobs(typed.split(' ').map(str::to_owned).collect());
            assert_eq!(read.words().len(), typed.split(' ').count(), "{:?}", read.words());
            assert_eq!(knobs(read.words()), read);
        }
    }
}
