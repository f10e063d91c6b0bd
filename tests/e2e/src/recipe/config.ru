# The application that the recipe for Puma serves in the tests.

# The service runs in its release's directory, releases/<name>.
SHARED = '../../shared'
RELEASE = File.read('release.txt').strip

raise 'the settings of v3 name a database that is not there' if RELEASE == 'v3'

run lambda { |env|
  if env['PATH_INFO'] == '/long'
    # An export that takes as long as the test wants.
    File.write("#{SHARED}/long-has-begun", '')
    sleep 0.02 until File.exist?("#{SHARED}/long-may-end")
  end
  [200, { 'content-type' => 'text/plain', 'content-length' => '3', 'x-release' => RELEASE }, ["ok\n"]]
}
