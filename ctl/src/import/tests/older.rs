//! Files of older versions, and ways of writing that the pages do not show.

use super::super::*;

fn imported(kind: Kind, file: &str, text: &str, beside: &[(&str, &str)]) -> Imported {
    let home = tempfile::tempdir().unwrap();
    for (name, content) in beside {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let name = AppName::new("site").unwrap();
    import(kind, &Source { name: file, text }, &Checkout::new(home.path()), Some(&name)).unwrap()
}

/// The tables of a definition, without comments.
fn tables(made: &Imported) -> String {
    let lines = made.definition.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.skip(2).collect::<Vec<_>>().join("\n")
}

fn left(made: &Imported, what: &str) -> bool {
    made.account.left.iter().any(|left| left.what.contains(what))
}

#[test]
fn a_fabfile_of_fabric_1_and_python_2_is_followed() {
    let text = "\
from fabric.api import env, run, sudo, cd, local, put, execute

env.user = 'deploy'
env.project_root = '/srv/%s' % 'site'

def production():
    env.hosts = ['web-1.example.org']
    env.branch = 'main'
    env.program = 'web worker'

def _update():
    with cd(env.project_root):
        run('git pull origin %(branch)s' % env)
        with cd('backend'):
            run('source venv/bin/activate && pip install -r %s' % 'requirements.txt')
            run('./manage.py migrate --settings={0}'.format('site.settings'))

def restart():
    sudo('supervisorctl restart ' + env.program)
    print 'done'

def deploy():
    local('npm run build')
    execute(_update)
    restart()

def rollback():
    run('git checkout HEAD~1')

def uptime():
    run('uptime')
    run('free')
";
    let beside = [("backend/manage.py", ""), ("backend/requirements.txt", "")];
    let made = imported(Kind::Fabric, "fabfile.py", text, &beside);
    insta::assert_snapshot!(tables(&made), @r#"
    [[build]]
    name = "wheels"
    command = ["python3", "-m", "pip", "wheel", "--quiet", "--wheel-dir", "wheels", "-r", "backend/requirements.txt"]
    [[build]]
    name = "build"
    command = ["npm", "run", "build"]
    [[prepare]]
    name = "virtualenv"
    command = ["python3", "-m", "venv", "{prepared}/venv"]
    [[prepare]]
    name = "packages"
    command = ["{prepared}/venv/bin/pip", "install", "--quiet", "--no-index", "--find-links", "wheels", "-r", "backend/requirements.txt"]
    [migrate]
    command = ["{prepared}/venv/bin/python", "backend/manage.py", "migrate", "--settings=site.settings", "--noinput"]
    files = ["**/migrations/*.py", "backend/requirements.txt"]
    [[service]]
    name = "web"
    driver = "supervisor"
    program = "web"
    [[service]]
    name = "worker"
    driver = "supervisor"
    program = "worker"
    [environment.production]
    canary = 1
    batch = "25%"
    "#);
    assert!(left(&made, "git pull origin main"), "{:?}", made.account.left);
    assert!(left(&made, "task production") && left(&made, "task rollback") && left(&made, "task uptime"));
    assert!(!left(&made, "HEAD~1"), "what only the way back runs is no part of a release");
}

#[test]
fn wrappers_loops_and_what_is_not_known_are_told() {
    let text = "\
from fabric import task

APPS = ['a', 'b']

def _run(c, command, warn=False):
    c.run(command, warn=warn)

def _manage(c, manage_py, args):
    _run(c, f'/srv/site/venv/bin/python {manage_py} {args}')

@task
def deploy(c, tag):
    _run(c, f'cd /srv/site && git checkout {tag}')
    for app in APPS:
        _run(c, 'systemctl restart ' + app)
    _run(c, 'systemctl reload site.service')
    _manage(c, find(c), 'migrate')
    _manage(c, find(c), args='collectstatic --clear')
    c.put('a', remote='/tmp/a')
    c.run('frobnicate --all')
";
    let made = imported(Kind::Fabric, "fabfile.py", text, &[]);
    assert!(
        left(&made, "git checkout ${tag}") && left(&made, "systemctl restart ${app}"),
        "{:?}",
        made.account.left
    );
    assert!(left(&made, "frobnicate --all") && left(&made, "put a"));
    assert!(tables(&made).contains("\"manage.py\", \"migrate\", \"--noinput\"]"), "{}", made.definition);
    assert!(tables(&made).contains("\"manage.py\", \"collectstatic\", \"--clear\", \"--noinput\"]"));
    assert!(tables(&made).contains("unit = \"site.service\"\nhow = \"reload\""), "{}", made.definition);
}

#[test]
fn a_deploy_rb_of_capistrano_2_is_followed() {
    let text = "\
require 'bundler/capistrano'
load 'deploy/assets'
set :application, 'site'
set :repository, 'git@git.example.org:team/site.git'
set :deploy_to, \"/var/www/#{application}\"
set :shared_children, shared_children + %w[public/uploads log]
set(:rails_env) { 'production' }
role :web, 'web-1.example.org'
namespace :deploy do
  task :start do ; end
  task :restart, :roles => :app, :except => { :no_release => true } do
    run \"#{try_sudo} touch #{File.join(current_path,'tmp','restart.txt')}\"
    run \"touch #{current_path}/tmp/restart.txt\"
  end
  task :symlink_db do
    run \"ln -nfs #{shared_path}/config/database.yml #{release_path}/config/database.yml\"
  end
  task :console do
    run 'rails console'
  end
end
after 'deploy:update_code', 'deploy:symlink_db'
after 'deploy', 'deploy:migrate'
";
    let made = imported(Kind::Capistrano, "config/deploy.rb", text, &[]);
    insta::assert_snapshot!(tables(&made), @r#"
    [[build]]
    name = "gems"
    command = ["sh", "-ec", "bundle config set --local deployment true; bundle config set --local without development:test; bundle install --quiet"]
    [[build]]
    name = "assets"
    command = ["bundle", "exec", "rails", "assets:precompile"]
    environment = { RAILS_ENV = "production", SECRET_KEY_BASE_DUMMY = "1" }
    [migrate]
    command = ["bundle", "exec", "rails", "db:migrate"]
    environment = { RAILS_ENV = "production" }
    files = ["db/migrate/*.rb"]
    [[service]]
    name = "web"
    driver = "exec"
    restart = ["passenger-config", "restart-app", "{current}", "--ignore-app-not-running"]
    [shared]
    directories = ["log", "public/uploads"]
    files = ["config/database.yml"]
    [environment.production]
    canary = 1
    batch = "25%"
    "#);
    assert!(left(&made, "deploy_to \"/var/www/#{application}\"") && left(&made, "task deploy:console"));
    assert!(left(&made, "role :web, 'web-1.example.org'"));
}

#[test]
fn ways_to_write_what_is_shared_in_ruby_are_understood() {
    for line in [
        "append :linked_dirs, 'log', 'tmp/pids'",
        "set :linked_dirs, %w{log tmp/pids}",
        "set :linked_dirs, fetch(:linked_dirs, []).push('log', 'tmp/pids')",
        "set :linked_dirs, fetch(:linked_dirs, []) + %w[log tmp/pids]",
        "set :linked_dirs, fetch(:linked_dirs, []).concat(['log', \"tmp/#{fetch(:x, 'pids')}\"])",
        "set :linked_dirs, [\n  'log',\n  'tmp/pids',\n]",
    ] {
        let made = imported(Kind::Capistrano, "config/deploy.rb", line, &[]);
        assert!(
            tables(&made).contains("directories = [\"log\", \"tmp/pids\"]"),
            "{line}: {}",
            made.definition
        );
    }
}

#[test]
fn a_deploy_yml_of_kamal_1_with_aliases_and_ruby_is_followed() {
    let text = "\
<% require 'dotenv' %>
x-env: &env
  RAILS_ENV: production
service: site
image: team/site
servers:
  web:
    hosts:
      - <%= ENV['WEB'] %>
    options:
      memory: 512m
      cpus: 1.5
      cap-add: NET_ADMIN
  sidekiq:
    hosts:
      - <%= ENV['WEB'] %>
    cmd: bundle exec sidekiq -q $QUEUE
    env:
      clear:
        <<: *env
        QUEUE: default
env:
  <<: *env
  HOST: <%= ENV['HOST'] %>
  API_TOKEN: abc
healthcheck:
  path: /healthz
  port: 4000
  max_attempts: 10
traefik:
  args: {}
volumes:
  - /data/site:/app/data:ro
  - /data/site:/app/data
stop_wait_time: 45
boot:
  limit: 2
  wait: 30
";
    let made =
        imported(Kind::Kamal, "config/deploy.yml", text, &[("config/deploy.staging.yml", "service: site\n")]);
    insta::assert_snapshot!(tables(&made), @r#"
    [[build]]
    name = "image"
    command = ["sh", "-ec", "docker build --tag landfall/site .; mkdir -p images; docker save --output images/web.tar landfall/site"]
    [[service]]
    name = "web"
    driver = "docker"
    image_file = "images/web.tar"
    publish = ["{address}:4000"]
    environment = { RAILS_ENV = "production" }
    volumes = ["/data/site:/app/data:ro"]
    memory = "512MiB"
    cpus = "1.5"
    stop_timeout = "45s"
    [[service]]
    name = "sidekiq"
    driver = "docker"
    image_file = "images/web.tar"
    command = ["sh", "-c", "bundle exec sidekiq -q $QUEUE"]
    environment = { QUEUE = "default", RAILS_ENV = "production" }
    volumes = ["/data/site:/app/data:ro"]
    stop_timeout = "45s"
    [traffic]
    proxy = "nginx"
    slots = { service = "web", blue = "127.0.0.1:4001", green = "127.0.0.1:4002", warm_up = ["/healthz"] }
    [[check]]
    name = "healthz"
    http = { url = "http://{address}/healthz" }
    [environment.production]
    canary = 1
    batch = 2
    min_healthy = "30s"
    [environment.staging]
    canary = 1
    batch = "25%"
    "#);
    assert!(left(&made, "<% require 'dotenv' %>") && left(&made, "HOST: <%= ENV['HOST'] %>"));
    assert!(left(&made, "API_TOKEN") && left(&made, "cap-add") && left(&made, "destination staging"));
}
