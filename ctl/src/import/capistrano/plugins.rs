//! What plugins do, by the name under which they are required, hooked, or set up.

use super::super::account::Place;
use super::super::deed::{Deed, Framework, Migration, gems};
use super::super::script::{Node, Script};
use super::value::{arguments, symbol};
use super::{Reading, said};

/// Required by every Capfile, or about Capistrano itself.
const ITSELF: [&str; 18] = [
    "capistrano/setup",
    "capistrano/deploy",
    "capistrano/scm/git",
    "capistrano/scm/svn",
    "capistrano/scm/hg",
    "capistrano/console",
    "capistrano/framework",
    "capistrano/all",
    "capistrano",
    "capistrano/git",
    "capistrano/dsl",
    "deploy",
    "config/deploy",
    "capistrano/ext/multistage",
    "capistrano/locally",
    "capistrano/ssh_doctor",
    "dotenv",
    "capistrano/scm/git-with-submodules",
];

impl Reading<'_, '_, '_> {
    /// `require "capistrano/rails"`, `install_plugin Capistrano::Puma`.
    pub(super) fn require(&mut self, script: &Script<'_>, node: Node<'_>) {
        let from = Place::new(script.name, script.line(node));
        let Some(argument) = arguments(node).first().copied() else { return };
        let name = symbol(script, argument);
        let is_named = matches!(argument.kind(), "string" | "constant" | "scope_resolution");
        if !is_named || ITSELF.contains(&name.as_str()) || name.starts_with("Capistrano::SCM") {
            return;
        }
        let what = format!("plugin {name}");
        let lower = name.to_lowercase().replace("::", "/");
        if !self.plugin(&lower, &from, &what) {
            let why = "what it adds to a deployment is not known here";
            let instead = "what it does to files belongs into [[build]] or [[prepare]]; what it restarts is a [[service]]";
            self.left(&from, what, why, instead);
        }
    }

    /// A setting that shows which plugin there is: `bundle_without`, `puma_threads`.
    pub(super) fn of_plugin(&mut self, setting: &str, from: &Place, what: &str) -> bool {
        let plugin = match setting.split('_').next().unwrap_or_default() {
            "bundle" | "bundler" => "capistrano/bundler",
            "migration" | "conditionally" => "capistrano/rails/migrations",
            "assets" => "capistrano/rails/assets",
            "puma" => "capistrano/puma",
            "unicorn" => "capistrano3/unicorn",
            "passenger" => "capistrano/passenger",
            "sidekiq" => "capistrano/sidekiq",
            "delayed" => "capistrano/delayed_job",
            "rbenv" => "capistrano/rbenv",
            "rvm" => "capistrano/rvm",
            "nvm" | "npm" => "capistrano/npm",
            "yarn" => "capistrano/yarn",
            "whenever" => "whenever/capistrano",
            "composer" => "capistrano/composer",
            "chruby" => "capistrano/chruby",
            _ => return false,
        };
        self.plugin(plugin, from, what)
    }

    /// A task of a plugin that a hook names.
    pub(super) fn of_hook(&mut self, task: &str, from: &Place) -> bool {
        let plugin = match task.trim_start_matches("deploy:") {
            "migrate" | "migrations" => "capistrano/rails/migrations",
            "compile_assets" | "assets:precompile" => "capistrano/rails/assets",
            "restart" | "start" | "publishing" | "cleanup" | "cleanup_assets" | "update_code"
            | "symlink:release" | "finalize_update" => {
                self.left(
                    from,
                    format!("hook {task}"),
                    "Landfall does it by itself, as part of a release",
                    "nothing",
                );
                return true;
            }
            task => match task.split(':').next().unwrap_or_default() {
                "puma" => "capistrano/puma",
                "unicorn" => "capistrano3/unicorn",
                "passenger" => "capistrano/passenger",
                "sidekiq" => "capistrano/sidekiq",
                "delayed_job" => "capistrano/delayed_job",
                "bundler" | "bundle" => "capistrano/bundler",
                "whenever" => "whenever/capistrano",
                "rvm" => "capistrano/rvm",
                "rbenv" => "capistrano/rbenv",
                "nginx" => "capistrano/nginx",
                _ => return false,
            },
        };
        self.plugin(plugin, from, &format!("hook {task}"))
    }

    /// What a plugin does, once; `false` for one that nobody here knows.
    fn plugin(&mut self, name: &str, from: &Place, what: &str) -> bool {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let migrate = |of, command: &str| Deed::Migrate(Migration { of, command: words(command) });
        let build = |name, command: &str| Deed::Build { name, command: words(command) };
        let deeds = match name {
            "capistrano/bundler" | "bundler/capistrano" => {
                vec![("gems", Deed::Build { name: "gems", command: gems() })]
            }
            "capistrano/rails/migrations" => {
                vec![("migrations", migrate(Framework::Rails, "bundle exec rails db:migrate"))]
            }
            "capistrano/rails/assets" | "deploy/assets" => {
                vec![("assets", build("assets", "bundle exec rails assets:precompile"))]
            }
            "capistrano/rails" | "capistrano/rails/all" => vec![
                ("gems", Deed::Build { name: "gems", command: gems() }),
                ("assets", build("assets", "bundle exec rails assets:precompile")),
                ("migrations", migrate(Framework::Rails, "bundle exec rails db:migrate")),
            ],
            name if name.starts_with("capistrano/puma") && !name.ends_with("nginx")
                || name == "capistrano3/puma" =>
            {
                vec![("puma", Deed::Serve { command: words("bundle exec puma --config config/puma.rb") })]
            }
            "capistrano3/unicorn" | "capistrano-unicorn" | "capistrano/unicorn" | "capistrano3-unicorn" => {
                vec![("unicorn", Deed::Run(words("bundle exec unicorn -c config/unicorn.rb")))]
            }
            "capistrano/passenger" => vec![("passenger", Deed::Passenger)],
            "capistrano/sidekiq" | "capistrano/sidekiq/systemd" => {
                vec![("sidekiq", Deed::Run(words("bundle exec sidekiq")))]
            }
            "capistrano/delayed_job" | "capistrano/delayed-job" | "delayed/recipes" => {
                vec![("delayed_job", Deed::Run(words("bundle exec rails jobs:work")))]
            }
            "capistrano/yarn" => vec![("yarn", build("node-modules", "yarn install --frozen-lockfile"))],
            "capistrano/npm" | "capistrano/node-deploy" => vec![("npm", build("node-modules", "npm ci"))],
            "capistrano/composer" => {
                vec![("composer", build("composer", "composer install --no-dev --prefer-dist"))]
            }
            "capistrano/laravel" => vec![
                ("composer", build("composer", "composer install --no-dev --prefer-dist")),
                ("migrations", migrate(Framework::Laravel, "php artisan migrate --force")),
            ],
            "capistrano/symfony" => {
                vec![("composer", build("composer", "composer install --no-dev --prefer-dist"))]
            }
            name if [
                "rbenv",
                "rvm",
                "chruby",
                "asdf",
                "nvm",
                "nginx",
                "postgresql",
                "capistrano/puma/nginx",
            ]
            .iter()
            .any(|word| name.ends_with(word)) =>
            {
                let why = "it is about what the host has: runtimes, a proxy, a database";
                let instead =
                    "set the hosts up for it as before; PATH of a service or step is `environment` there";
                self.left(from, what, why, instead);
                return true;
            }
            "whenever/capistrano" => {
                let why = "Landfall writes no crontab";
                let instead =
                    "let a timer of systemd, or the host's crontab, run a command in /srv/NAME/current";
                self.left(from, what, why, instead);
                return true;
            }
            _ => return false,
        };
        for (id, deed) in deeds {
            let is_first = self.plugins.insert(id);
            if is_first {
                self.work.deed(from.clone(), said(words(what)), deed, None);
            } else {
                self.work.account.carried(from, what, format!("{id}, as said before"));
            }
        }
        true
    }

    /// Rails has gems, whoever says so.
    pub(super) fn plugins(&mut self) {
        let is_rails = ["assets", "migrations", "puma"].iter().any(|id| self.plugins.contains(id));
        if is_rails && !self.plugins.contains("gems") && self.work.checkout.has("Gemfile") {
            let from = Place::new("Gemfile", 1);
            self.plugin("capistrano/bundler", &from, "Gemfile");
        }
    }
}
