server "web-1.example.org", roles: %w[web app db]
server "web-2.example.org", roles: %w[web app]
