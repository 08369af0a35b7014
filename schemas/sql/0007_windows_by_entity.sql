-- `watchkeep inspect` asks for the windows of one entity.

CREATE INDEX windows_by_entity ON windows (entity);
