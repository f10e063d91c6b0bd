lock "~> 3.19"

set :application, "site"
set :repo_url, "git@git.example.org:team/site.git"
set :branch, "main"
set :deploy_to, "/srv/site"
append :linked_files, "config/master.key"
append :linked_dirs, "log", "storage", "tmp/pids"
set :keep_releases, 5
set :bundle_without, %w[development test].join(" ")
set :migration_role, :db
set :puma_systemctl_user, :system

after "deploy:published", "puma:restart"

namespace :deploy do
  after :finished, :smoke do
    on roles(:web) { execute "curl --fail http://127.0.0.1:8000/up" }
  end
end
