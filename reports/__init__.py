"""What people read: tables, charts, pages and the command line."""
